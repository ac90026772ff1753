"""The Noise handshake: agreement, refusal of what was changed, and misuse."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opnode.core.crypto import StaticKey, sha256
from opnode.core.errors import LocalProtocolError, RemoteProtocolError
from opnode.protocols.noise import (
    MAX_MESSAGE,
    MESSAGE_1_OVERHEAD,
    MESSAGE_2_OVERHEAD,
    NoiseInitiator,
    NoiseResponder,
)

# The points of small order on Curve25519 that fit 32 bytes, RFC 7748 section 6.1.
LOW_ORDER = (
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
)
PSK = bytes(range(32))


def named_key(name: str) -> StaticKey:
    return StaticKey.from_bytes(sha256(name.encode()))


class Ends(NamedTuple):
    initiator: NoiseInitiator
    responder: NoiseResponder


def ends(psk: bytes | None = None, responder_psk: bytes | None = None) -> Ends:
    callee = named_key("callee")
    return Ends(
        NoiseInitiator(
            named_key("caller"),
            callee.public,
            ephemeral=named_key("caller ephemeral"),
            psk=psk,
        ),
        NoiseResponder(
            callee, ephemeral=named_key("callee ephemeral"), psk=responder_psk or psk
        ),
    )


both_patterns = pytest.mark.parametrize("psk", [None, PSK], ids=["IK", "IKpsk2"])


@both_patterns
def test_both_ends_hold_each_others_keys(psk: bytes | None):
    initiator, responder = ends(psk)
    first = initiator.write_message_1(b"offer")
    assert responder.read_message_1_untrusted(first) == b"offer"
    assert responder.remote_static == named_key("caller").public
    second = responder.write_message_2(b"answer")
    assert initiator.read_message_2_untrusted(second) == b"answer"
    assert initiator.keys.send == responder.keys.receive
    assert initiator.keys.receive == responder.keys.send
    assert initiator.keys.send != initiator.keys.receive
    assert initiator.keys.handshake_hash == responder.keys.handshake_hash


@both_patterns
def test_messages_are_longer_than_their_payloads_by_the_stated_overheads(
    psk: bytes | None,
):
    initiator, responder = ends(psk)
    first = initiator.write_message_1(b"12345")
    responder.read_message_1_untrusted(first)
    assert len(first) == 5 + MESSAGE_1_OVERHEAD
    assert len(responder.write_message_2(b"123")) == 3 + MESSAGE_2_OVERHEAD


@both_patterns
@given(data=st.data())
def test_n_6_a_flipped_bit_anywhere_is_refused_and_leaves_the_handshake_alive(
    psk: bytes | None, data: st.DataObject
):
    initiator, responder = ends(psk)
    first = initiator.write_message_1(b"offer")
    changed = flip(first, data.draw(st.integers(0, len(first) * 8 - 1)))
    with pytest.raises(RemoteProtocolError):
        responder.read_message_1_untrusted(changed)
    assert responder.read_message_1_untrusted(first) == b"offer"
    second = responder.write_message_2(b"answer")
    changed = flip(second, data.draw(st.integers(0, len(second) * 8 - 1)))
    with pytest.raises(RemoteProtocolError):
        initiator.read_message_2_untrusted(changed)
    assert initiator.read_message_2_untrusted(second) == b"answer"


def flip(message: bytes, bit: int) -> bytes:
    changed = bytearray(message)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@both_patterns
@given(noise=st.binary(max_size=200))
def test_random_bytes_are_refused_by_both_ends(psk: bytes | None, noise: bytes):
    initiator, responder = ends(psk)
    initiator.write_message_1(b"")
    with pytest.raises(RemoteProtocolError):
        responder.read_message_1_untrusted(noise)
    with pytest.raises(RemoteProtocolError):
        initiator.read_message_2_untrusted(noise)


def test_n_8_ends_with_other_pre_shared_keys_refuse_each_other():
    initiator, responder = ends(PSK, responder_psk=bytes(32))
    responder.read_message_1_untrusted(initiator.write_message_1(b"offer"))
    with pytest.raises(RemoteProtocolError, match="message 2"):
        initiator.read_message_2_untrusted(responder.write_message_2(b"answer"))


def test_n_8_an_end_with_a_pre_shared_key_refuses_one_without():
    with_psk, without = ends(PSK), ends()
    first = without.initiator.write_message_1(b"offer")
    with pytest.raises(RemoteProtocolError, match="message 1 static key"):
        with_psk.responder.read_message_1_untrusted(first)


def test_n_8_ends_with_other_prologues_refuse_each_other():
    callee = named_key("callee")
    initiator, _ = ends()
    responder = NoiseResponder(callee, ephemeral=named_key("e"), prologue=b"other")
    with pytest.raises(RemoteProtocolError):
        responder.read_message_1_untrusted(initiator.write_message_1(b""))


def test_an_answer_to_another_handshake_is_refused():
    initiator, _ = ends()
    initiator.write_message_1(b"offer")
    other = NoiseInitiator(
        named_key("caller"), named_key("callee").public, ephemeral=named_key("second")
    )
    responder = ends().responder
    responder.read_message_1_untrusted(other.write_message_1(b"offer"))
    with pytest.raises(RemoteProtocolError):
        initiator.read_message_2_untrusted(responder.write_message_2(b"answer"))


@pytest.mark.parametrize("point", LOW_ORDER)
def test_n_5_points_of_low_order_are_refused_wherever_they_come_from(point: bytes):
    initiator, responder = ends()
    first = initiator.write_message_1(b"")
    with pytest.raises(RemoteProtocolError, match="low-order"):
        responder.read_message_1_untrusted(point + first[32:])
    with pytest.raises(RemoteProtocolError, match="low-order"):
        initiator.read_message_2_untrusted(point + bytes(16))
    caller = NoiseInitiator(named_key("caller"), point, ephemeral=named_key("e"))
    with pytest.raises(RemoteProtocolError, match="low-order"):
        caller.write_message_1(b"")


@pytest.mark.parametrize("size", [0, MESSAGE_1_OVERHEAD - 1, MAX_MESSAGE + 1])
def test_message_1_of_a_wrong_size_is_refused_with_both_sizes_named(size: int):
    with pytest.raises(RemoteProtocolError, match=f"found {size} bytes, expected 96 "):
        ends().responder.read_message_1_untrusted(bytes(size))


def test_a_payload_beyond_the_longest_noise_message_is_refused_unsealed():
    initiator, responder = ends()
    with pytest.raises(LocalProtocolError, match="payload"):
        initiator.write_message_1(bytes(MAX_MESSAGE - MESSAGE_1_OVERHEAD + 1))
    longest = initiator.write_message_1(bytes(MAX_MESSAGE - MESSAGE_1_OVERHEAD))
    responder.read_message_1_untrusted(longest)
    with pytest.raises(LocalProtocolError, match="payload"):
        responder.write_message_2(bytes(MAX_MESSAGE - MESSAGE_2_OVERHEAD + 1))


def test_keys_of_a_wrong_length_are_refused_at_once():
    caller, ephemeral = named_key("caller"), named_key("e")
    with pytest.raises(LocalProtocolError, match="remote static key: found 31"):
        NoiseInitiator(caller, bytes(31), ephemeral=ephemeral)
    with pytest.raises(LocalProtocolError, match="pre-shared key: found 5"):
        NoiseResponder(caller, ephemeral=ephemeral, psk=b"short")


def test_steps_out_of_their_order_are_a_local_fault():
    initiator, responder = ends()
    with pytest.raises(LocalProtocolError):
        initiator.read_message_2_untrusted(bytes(48))
    with pytest.raises(LocalProtocolError):
        responder.write_message_2(b"")
    with pytest.raises(LocalProtocolError):
        _ = responder.remote_static
    with pytest.raises(LocalProtocolError):
        _ = initiator.keys
    with pytest.raises(LocalProtocolError):
        _ = responder.keys
    first = initiator.write_message_1(b"")
    with pytest.raises(LocalProtocolError):
        initiator.write_message_1(b"")
    responder.read_message_1_untrusted(first)
    with pytest.raises(LocalProtocolError):
        responder.read_message_1_untrusted(first)
    second = responder.write_message_2(b"")
    with pytest.raises(LocalProtocolError):
        responder.write_message_2(b"")
    initiator.read_message_2_untrusted(second)
    with pytest.raises(LocalProtocolError):
        initiator.read_message_2_untrusted(second)


class Impostor(StaticKey):
    """Shows the caller's public key, holds the callee's secret, guesses the rest."""

    __slots__ = ("guess",)

    def __init__(self, guess: Callable[[bytes], bytes]) -> None:
        super().__init__(bytes(32))
        self.public = named_key("caller").public
        self.guess = guess

    def exchange(self, their_public: bytes) -> bytes:
        callee = named_key("callee")
        if their_public == callee.public:
            return callee.exchange(self.public)
        return self.guess(their_public)


@pytest.mark.parametrize(
    "guess", [named_key("callee").exchange, named_key("e").exchange, sha256]
)
def test_n_7_a_stolen_callee_key_forges_message_1_but_opens_no_answer(
    guess: Callable[[bytes], bytes],
):
    forger, second = forged_handshake(guess)
    with pytest.raises(RemoteProtocolError):
        forger.read_message_2_untrusted(second)


def test_n_7_the_forger_would_succeed_with_the_callers_own_key():
    forger, second = forged_handshake(named_key("caller").exchange)
    assert forger.read_message_2_untrusted(second) == b"for the caller alone"


def forged_handshake(
    guess: Callable[[bytes], bytes],
) -> tuple[NoiseInitiator, bytes]:
    """Let somebody with the callee's key call it as the caller; return its answer."""
    responder = ends().responder
    forger = NoiseInitiator(
        Impostor(guess), named_key("callee").public, ephemeral=named_key("e")
    )
    responder.read_message_1_untrusted(forger.write_message_1(b"it is me"))
    assert responder.remote_static == named_key("caller").public
    return forger, responder.write_message_2(b"for the caller alone")


def test_n_9_no_secret_is_in_a_representation():
    initiator, responder = ends(PSK)
    second = answered(initiator, responder)
    initiator.read_message_2_untrusted(second)
    shown = f"{initiator!r} {responder!r} {initiator.keys!r}"
    for secret in (initiator.keys.send, initiator.keys.receive, PSK):
        assert secret.hex() not in shown
        assert repr(secret) not in shown


def answered(initiator: NoiseInitiator, responder: NoiseResponder) -> bytes:
    responder.read_message_1_untrusted(initiator.write_message_1(b""))
    return responder.write_message_2(b"")
