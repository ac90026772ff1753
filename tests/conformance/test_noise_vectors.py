"""The published Noise vectors and an independent implementation, in both roles.

The vectors lie beside the project, not in it; where they are absent those tests are
skipped and the cross-check against ``noiseprotocol`` stands alone.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from noise.connection import Keypair, NoiseConnection

from opnode.core.crypto import StaticKey, TransportKeys, new_aead
from opnode.protocols.noise import NoiseInitiator, NoiseResponder

VECTORS = Path(__file__).resolve().parents[3] / "shared/vectors"
VECTOR_FILE = VECTORS / "noise_aesgcm_sha256.json"
IMPLEMENTED = ("Noise_IK_25519_AESGCM_SHA256", "Noise_IKpsk2_25519_AESGCM_SHA256")
HANDSHAKE_MESSAGES = 2

Vector = dict[str, Any]  # JSON as it is published; the tests name its fields.


class Message(NamedTuple):
    payload: bytes
    ciphertext: bytes


def published() -> list[Any]:
    """The vectors of the two patterns as parameters, or one that skips."""
    if not VECTOR_FILE.is_file():
        reason = f"the published vectors are not beside the project: {VECTOR_FILE}"
        return [pytest.param({}, marks=pytest.mark.skip(reason=reason), id="absent")]
    found = json.loads(VECTOR_FILE.read_text(encoding="utf-8"))["vectors"]
    return [
        pytest.param(vector, id=f"{vector['source']}-{vector['protocol_name']}")
        for vector in found
        if vector["protocol_name"] in IMPLEMENTED
    ]


every_vector = pytest.mark.parametrize("vector", published())


def key(vector: Vector, name: str) -> StaticKey:
    return StaticKey.from_bytes(bytes.fromhex(vector[name]))


def psk_of(vector: Vector, role: str) -> bytes | None:
    psks = vector.get(f"{role}_psks", [])
    return bytes.fromhex(psks[0]) if psks else None


def messages(vector: Vector) -> list[Message]:
    return [
        Message(bytes.fromhex(m["payload"]), bytes.fromhex(m["ciphertext"]))
        for m in vector["messages"]
    ]


def initiator_of(vector: Vector) -> NoiseInitiator:
    return NoiseInitiator(
        key(vector, "init_static"),
        bytes.fromhex(vector["init_remote_static"]),
        ephemeral=key(vector, "init_ephemeral"),
        prologue=bytes.fromhex(vector["init_prologue"]),
        psk=psk_of(vector, "init"),
    )


def responder_of(vector: Vector) -> NoiseResponder:
    return NoiseResponder(
        key(vector, "resp_static"),
        ephemeral=key(vector, "resp_ephemeral"),
        prologue=bytes.fromhex(vector["resp_prologue"]),
        psk=psk_of(vector, "resp"),
    )


def finished(vector: Vector) -> tuple[NoiseInitiator, NoiseResponder]:
    first, second = messages(vector)[:HANDSHAKE_MESSAGES]
    initiator, responder = initiator_of(vector), responder_of(vector)
    initiator.write_message_1(first.payload)
    responder.read_message_1_untrusted(first.ciphertext)
    responder.write_message_2(second.payload)
    initiator.read_message_2_untrusted(second.ciphertext)
    return initiator, responder


def seal(keys: TransportKeys, count: int, payload: bytes) -> bytes:
    nonce = bytes(4) + count.to_bytes(8, "big")
    return new_aead(keys.send).encrypt(nonce, payload, b"")


def unseal(keys: TransportKeys, count: int, sealed: bytes) -> bytes:
    nonce = bytes(4) + count.to_bytes(8, "big")
    return new_aead(keys.receive).decrypt(nonce, sealed, b"")


@every_vector
def test_n_1_initiator_writes_and_reads_the_published_bytes(vector: Vector):
    first, second = messages(vector)[:HANDSHAKE_MESSAGES]
    initiator = initiator_of(vector)
    assert initiator.write_message_1(first.payload) == first.ciphertext
    assert initiator.read_message_2_untrusted(second.ciphertext) == second.payload


@every_vector
def test_n_1_responder_reads_and_writes_the_published_bytes(vector: Vector):
    first, second = messages(vector)[:HANDSHAKE_MESSAGES]
    responder = responder_of(vector)
    assert responder.read_message_1_untrusted(first.ciphertext) == first.payload
    assert responder.remote_static == key(vector, "init_static").public
    assert responder.write_message_2(second.payload) == second.ciphertext


@every_vector
def test_n_2_both_ends_end_with_the_published_handshake_hash(vector: Vector):
    initiator, responder = finished(vector)
    assert initiator.keys.handshake_hash == responder.keys.handshake_hash
    if "handshake_hash" in vector:
        assert initiator.keys.handshake_hash.hex() == vector["handshake_hash"]


@every_vector
def test_n_3_transport_keys_seal_and_open_the_published_messages(vector: Vector):
    initiator, responder = finished(vector)
    for index, message in enumerate(messages(vector)[HANDSHAKE_MESSAGES:]):
        count = index // 2
        ends = (initiator.keys, responder.keys)
        sender, receiver = ends if index % 2 == 0 else ends[::-1]
        assert seal(sender, count, message.payload) == message.ciphertext
        assert unseal(receiver, count, message.ciphertext) == message.payload


class Case(NamedTuple):
    """One random handshake: what both ends are given, and what they say."""

    secrets: tuple[bytes, bytes, bytes]
    prologue: bytes
    psk: bytes | None
    first: bytes
    second: bytes


cases = st.builds(
    Case,
    secrets=st.tuples(*[st.binary(min_size=32, max_size=32)] * 3),
    prologue=st.binary(max_size=60),
    psk=st.none() | st.binary(min_size=32, max_size=32),
    first=st.binary(max_size=300),
    second=st.binary(max_size=300),
)


def independent(case: Case, role: str) -> NoiseConnection:
    name = "Noise_IKpsk2" if case.psk is not None else "Noise_IK"
    other = NoiseConnection.from_name(f"{name}_25519_AESGCM_SHA256".encode())
    if case.psk is not None:
        other.set_psks(case.psk)
    other.set_prologue(case.prologue)
    static, remote = (
        (case.secrets[0], case.secrets[1])
        if role == "initiator"
        else (case.secrets[1], b"")
    )
    other.set_keypair_from_private_bytes(Keypair.STATIC, static)
    if role == "initiator":
        other.set_as_initiator()
        other.set_keypair_from_public_bytes(
            Keypair.REMOTE_STATIC, StaticKey.from_bytes(remote).public
        )
    else:
        other.set_as_responder()
    other.start_handshake()
    return other


@given(case=cases)
def test_n_4_our_initiator_talks_to_an_independent_responder(case: Case):
    theirs = independent(case, "responder")
    ours = NoiseInitiator(
        StaticKey.from_bytes(case.secrets[0]),
        StaticKey.from_bytes(case.secrets[1]).public,
        ephemeral=StaticKey.from_bytes(case.secrets[2]),
        prologue=case.prologue,
        psk=case.psk,
    )
    assert theirs.read_message(ours.write_message_1(case.first)) == case.first
    answer = bytes(theirs.write_message(case.second))
    assert ours.read_message_2_untrusted(answer) == case.second
    assert_same_transport(ours.keys, theirs)


@given(case=cases)
def test_n_4_our_responder_talks_to_an_independent_initiator(case: Case):
    theirs = independent(case, "initiator")
    ours = NoiseResponder(
        StaticKey.from_bytes(case.secrets[1]),
        ephemeral=StaticKey.from_bytes(case.secrets[2]),
        prologue=case.prologue,
        psk=case.psk,
    )
    offer = bytes(theirs.write_message(case.first))
    assert ours.read_message_1_untrusted(offer) == case.first
    assert ours.remote_static == StaticKey.from_bytes(case.secrets[0]).public
    assert theirs.read_message(ours.write_message_2(case.second)) == case.second
    assert_same_transport(ours.keys, theirs)


def assert_same_transport(ours: TransportKeys, theirs: NoiseConnection) -> None:
    assert theirs.get_handshake_hash() == ours.handshake_hash
    for count in range(2):
        assert theirs.decrypt(seal(ours, count, b"to them")) == b"to them"
        assert unseal(ours, count, theirs.encrypt(b"to us")) == b"to us"
