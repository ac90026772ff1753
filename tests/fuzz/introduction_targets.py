"""What must hold for any bytes given to the handshake and to introductions.

The invariant of every target: only the named refusals escape, and a genuine offer or
answer still works afterwards. The targets are run by atheris (``fuzz_introductions``)
and replayed by hypothesis (``test_introduction_targets``).
"""

from collections.abc import Callable

from opnode.core.crypto import StaticKey, TransportKeys, sha256
from opnode.core.errors import IntroductionRefused, RemoteProtocolError
from opnode.protocols.introductions.messages import (
    NO_RENDEZVOUS,
    decode_untrusted,
    encode,
)
from opnode.protocols.introductions.parts import (
    MAX_SEALED,
    OfferParts,
    parse_untrusted,
    split,
)
from opnode.protocols.introductions.signals import Signal, SignalBox
from opnode.protocols.noise import NoiseInitiator, NoiseResponder
from tests.unit.protocols.introductions.people import WALL_NOW, Person

Target = Callable[[bytes], None]
# Room for the payload of message 1, the longer of the two.
ROOM = MAX_SEALED - 96


def mutate(genuine: bytes, data: bytes) -> bytes:
    """Change a genuine message as the input says: two bytes a place, one the change."""
    changed = bytearray(genuine)
    for start in range(0, len(data) - 2, 3):
        place = int.from_bytes(data[start : start + 2], "big")
        changed[place % len(changed)] ^= data[start + 2]
    return bytes(changed[: len(changed) - len(data) % 3])


def payload_target(data: bytes) -> None:
    """Any bytes as an open payload."""
    try:
        half = decode_untrusted(data)
    except RemoteProtocolError:
        return
    encode(half, (2 * MAX_SEALED,))


def mutated_payload_target(data: bytes) -> None:
    """A genuine payload with changes, as an open payload."""
    alice = Person.named("alice")
    payload_target(
        mutate(encode(alice.desk.own_half(b"", alice.ice, b""), (ROOM,)), data)
    )


def offer_target(data: bytes) -> None:
    """Any bytes, and a changed genuine offer, as an offer; then the genuine one."""
    alice, bob = Person.named("alice"), Person.named("bob")
    genuine = alice.desk.offer(bob.location.certificate, alice.ice, 0.0).message
    for received in (data, mutate(genuine, data)):
        if received != genuine:
            _receive_offer(bob, received)
    assert bob.desk.receive_offer_untrusted(genuine, 0.0, wall_now=WALL_NOW) is not None


def sealed_payload_target(data: bytes) -> None:
    """Any bytes, and a changed genuine payload, sealed as the caller would."""
    alice, bob = Person.named("alice"), Person.named("bob")
    genuine = encode(alice.desk.own_half(b"", alice.ice, b""), (ROOM,))
    for payload in (data[:ROOM], mutate(genuine, data)):
        handshake = NoiseInitiator(
            alice.location.static,
            bob.static,
            ephemeral=StaticKey.from_bytes(sha256(payload)),
            prologue=b"opnode introduction 2" + bob.location.certificate.peer_id,
        )
        _receive_offer(bob, handshake.write_message_1(payload))


def _receive_offer(bob: Person, data: bytes) -> None:
    bob.desk.cached_answer(data, 0.0)
    try:
        bob.desk.receive_offer_untrusted(data, 0.0, wall_now=WALL_NOW)
    except IntroductionRefused:
        return


def answer_target(data: bytes) -> None:
    """Any bytes, and a changed genuine answer, as an answer; then the genuine one."""
    alice, bob = Person.named("alice"), Person.named("bob")
    outgoing = alice.desk.offer(bob.location.certificate, alice.ice, 0.0)
    incoming = bob.desk.receive_offer_untrusted(
        outgoing.message, 0.0, wall_now=WALL_NOW
    )
    assert incoming is not None
    genuine, at_bob = incoming.answer(bob.ice)
    for received in (data, mutate(genuine, data)):
        if received == genuine:
            continue
        try:
            outgoing.receive_answer_untrusted(received, WALL_NOW)
        except (RemoteProtocolError, IntroductionRefused):
            continue
        raise AssertionError("an answer that the callee never gave was taken")
    at_alice = outgoing.receive_answer_untrusted(genuine, WALL_NOW)
    assert at_alice.keys.handshake_hash == at_bob.keys.handshake_hash


def signal_target(data: bytes) -> None:
    """Any bytes, and a changed genuine signal, as a signal; then the genuine one."""
    one, other = bytes([1]) * 32, bytes([2]) * 32
    alice = SignalBox(TransportKeys(one, other, bytes(32)), initiator=True)
    bob = SignalBox(TransportKeys(other, one, bytes(32)), initiator=False)
    words = Signal(
        generation=1,
        ice=Person.named("alice").ice,
        rendezvous=NO_RENDEZVOUS,
        wants_answer=True,
    )
    genuine = alice.seal(words)
    for received in (data, mutate(genuine, data)):
        if received == genuine:
            continue
        try:
            bob.open_untrusted(received)
        except RemoteProtocolError:
            continue
        raise AssertionError("a signal that the other end never sealed was taken")
    assert bob.open_untrusted(genuine) == words


def part_target(data: bytes) -> None:
    """Any bytes as part of an offer; then a genuine offer in two parts."""
    table, genuine = OfferParts(), sha256(data) * 60
    parts = [parse_untrusted(part) for part in split(genuine)]
    for received in (data, mutate(split(genuine)[0], data)):
        try:
            table.add(parse_untrusted(received))
        except RemoteProtocolError:
            continue
    assert genuine in [table.add(part) for part in parts]


def noise_target(data: bytes) -> None:
    """Any bytes as either handshake message, with and without a pre-shared key."""
    callee = StaticKey.from_bytes(sha256(b"callee"))
    ephemeral = StaticKey.from_bytes(sha256(b"ephemeral"))
    for psk in (None, bytes(32)):
        initiator = NoiseInitiator(
            ephemeral, callee.public, ephemeral=ephemeral, psk=psk
        )
        initiator.write_message_1(b"")
        responder = NoiseResponder(callee, ephemeral=ephemeral, psk=psk)
        for read in (
            initiator.read_message_2_untrusted,
            responder.read_message_1_untrusted,
        ):
            try:
                read(data)
            except RemoteProtocolError:
                continue
            raise AssertionError("bytes without a key were taken for a message")


TARGETS: tuple[Target, ...] = (
    payload_target,
    mutated_payload_target,
    offer_target,
    sealed_payload_target,
    answer_target,
    signal_target,
    part_target,
    noise_target,
)
