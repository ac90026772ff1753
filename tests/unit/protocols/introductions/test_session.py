"""One introduction from each end: proofs of identity, misuse, late and bad answers."""

from dataclasses import replace

import pytest

from opnode.core.crypto import SigningKey, StaticKey, sha256
from opnode.core.errors import (
    IntroductionRefused,
    LocalProtocolError,
    RefusalCode,
    RemoteProtocolError,
)
from opnode.core.peerfile import Identity, certify_location
from opnode.protocols.introductions import (
    Established,
    IncomingIntroduction,
    IntroductionState,
    OutgoingIntroduction,
)
from opnode.protocols.introductions.parts import MAX_SEALED, MAX_WHOLE
from tests.unit.protocols.introductions.people import (
    LIFETIME_S,
    PASSWORD,
    WALL_NOW,
    Person,
    desk_of,
    ice_half,
)

AFTER_EXPIRY = WALL_NOW + LIFETIME_S + 1


def called(
    alice: Person, bob: Person
) -> tuple[OutgoingIntroduction, IncomingIntroduction]:
    outgoing = alice.desk.offer(bob.location.certificate, alice.ice, 0.0)
    incoming = bob.desk.receive_offer_untrusted(
        outgoing.message, 0.0, wall_now=WALL_NOW
    )
    assert incoming is not None
    return outgoing, incoming


def introduced(
    alice: Person, bob: Person, **early: bytes
) -> tuple[Established, Established]:
    outgoing, incoming = called(alice, bob)
    answer, at_bob = incoming.answer(bob.ice, **early)
    return outgoing.receive_answer_untrusted(answer, WALL_NOW), at_bob


def test_both_ends_hold_the_same_keys_and_each_others_identity_and_ice_half():
    alice, bob = Person.named("alice"), Person.named("bob")
    alice.ice, bob.ice = ice_half("aaaa"), ice_half("bbbb")
    at_alice, at_bob = introduced(alice, bob)
    assert at_alice.keys.send == at_bob.keys.receive
    assert at_alice.keys.receive == at_bob.keys.send
    assert at_alice.keys.handshake_hash == at_bob.keys.handshake_hash
    assert at_alice.offer_digest == at_bob.offer_digest
    assert (at_alice.initiator, at_bob.initiator) == (True, False)
    assert (at_alice.peer, at_bob.peer) == (
        bob.location.certificate,
        alice.location.certificate,
    )
    assert (at_alice.ice, at_bob.ice) == (bob.ice, alice.ice)


def test_early_data_reaches_the_other_end_both_ways():
    alice, bob = Person.named("alice"), Person.named("bob")
    outgoing = alice.desk.offer(
        bob.location.certificate, alice.ice, 0.0, early_data=b"shall we?"
    )
    incoming = bob.desk.receive_offer_untrusted(
        outgoing.message, 0.0, wall_now=WALL_NOW
    )
    assert incoming is not None
    assert incoming.early_data == b"shall we?"
    answer, at_bob = incoming.answer(bob.ice, early_data=b"let us")
    at_alice = outgoing.receive_answer_untrusted(answer, WALL_NOW)
    assert (at_bob.early_data, at_alice.early_data) == (b"shall we?", b"let us")


def test_an_introduction_is_decided_once():
    _, incoming = called(Person.named("alice"), Person.named("bob"))
    incoming.answer(ice_half())
    with pytest.raises(LocalProtocolError, match="decided once"):
        incoming.answer(ice_half())
    with pytest.raises(LocalProtocolError, match="decided once"):
        incoming.decline()


def test_an_answer_that_would_not_fit_leaves_the_offer_to_be_answered_otherwise():
    _, incoming = called(Person.named("alice"), Person.named("bob"))
    with pytest.raises(LocalProtocolError, match="early data"):
        incoming.answer(ice_half(), early_data=bytes(MAX_SEALED))
    answer, _ = incoming.answer(ice_half())
    assert len(answer) <= MAX_WHOLE


def test_i_11_a_forged_answer_leaves_the_offer_open_for_the_genuine_one():
    alice, bob = Person.named("alice"), Person.named("bob")
    outgoing, incoming = called(alice, bob)
    answer, at_bob = incoming.answer(bob.ice)
    for forged in (b"", bytes(200), answer[:-1], bytes(MAX_SEALED + 1)):
        with pytest.raises(RemoteProtocolError):
            outgoing.receive_answer_untrusted(forged, WALL_NOW)
    assert outgoing.state is IntroductionState.PENDING
    at_alice = outgoing.receive_answer_untrusted(answer, WALL_NOW)
    assert at_alice.keys.handshake_hash == at_bob.keys.handshake_hash


def test_a_second_copy_of_the_answer_is_refused_by_name():
    alice, bob = Person.named("alice"), Person.named("bob")
    outgoing, incoming = called(alice, bob)
    answer, _ = incoming.answer(bob.ice)
    outgoing.receive_answer_untrusted(answer, WALL_NOW)
    with pytest.raises(IntroductionRefused, match="established") as caught:
        outgoing.receive_answer_untrusted(answer, WALL_NOW)
    assert caught.value.code is RefusalCode.EXPIRED


def test_an_answer_after_giving_up_is_refused_by_name():
    alice, bob = Person.named("alice"), Person.named("bob")
    outgoing, incoming = called(alice, bob)
    answer, _ = incoming.answer(bob.ice)
    alice.desk.finish(outgoing)
    with pytest.raises(IntroductionRefused, match="finished"):
        outgoing.receive_answer_untrusted(answer, WALL_NOW)


def test_i_11_an_answer_with_an_expired_certificate_ends_the_attempt():
    alice, bob = Person.named("alice"), Person.named("bob")
    outgoing, incoming = called(alice, bob)
    answer, _ = incoming.answer(bob.ice)
    with pytest.raises(IntroductionRefused) as caught:
        outgoing.receive_answer_untrusted(answer, AFTER_EXPIRY)
    assert caught.value.code is RefusalCode.EXPIRED
    assert outgoing.state is IntroductionState.FINISHED
    alice.desk.offer(bob.location.certificate, alice.ice, 1.0)


def rival_certificate(bob: Person) -> Person:
    """Mallory, whose identity certifies Bob's static key as its own location."""
    mallory = Person.named("mallory")
    location = certify_location(
        mallory.identity,
        signing=SigningKey.from_seed(sha256(b"location", b"mallory")),
        static=bob.location.static,
        name="borrowed",
        wall_now=WALL_NOW,
        lifetime_s=LIFETIME_S,
    )
    return replace(mallory, location=location)


def test_i_3_a_call_to_an_identity_is_not_delivered_to_another_with_the_same_key():
    alice, bob = Person.named("alice"), Person.named("bob")
    mallory = rival_certificate(bob)
    outgoing = alice.desk.offer(mallory.location.certificate, alice.ice, 0.0)
    with pytest.raises(IntroductionRefused) as caught:
        bob.desk.receive_offer_untrusted(outgoing.message, 0.0, wall_now=WALL_NOW)
    assert caught.value.code is RefusalCode.MALFORMED


def answer_in_the_name_of(certificate: bytes) -> tuple[Person, OutgoingIntroduction]:
    """Bob's own desk, made to show another certificate than the one that was called."""
    alice, bob = Person.named("alice"), Person.named("bob")
    outgoing, incoming = called(alice, bob)
    half = bob.desk.own_half(alice.static, bob.ice, b"")
    shown = replace(half, certificate=certificate)
    bob.desk.own_half = lambda *_: shown  # type: ignore[method-assign] # a lying desk
    answer, _ = incoming.answer(bob.ice)
    with pytest.raises(IntroductionRefused) as caught:
        outgoing.receive_answer_untrusted(answer, WALL_NOW)
    assert caught.value.code is RefusalCode.MALFORMED
    return alice, outgoing


def test_i_3_an_answer_in_another_identitys_name_is_refused_and_ends_the_attempt():
    certificate = rival_certificate(Person.named("bob")).location.certificate
    alice, outgoing = answer_in_the_name_of(certificate.pack())
    assert outgoing.state is IntroductionState.FINISHED
    assert alice.desk.statistics().outgoing == 0


def test_i_3_an_answer_with_the_certificate_of_another_key_is_refused():
    answer_in_the_name_of(Person.named("mallory").location.certificate.pack())


def test_i_3_an_answer_whose_certificate_was_changed_is_refused():
    wire = bytearray(Person.named("bob").location.certificate.pack())
    wire[-1] ^= 1
    answer_in_the_name_of(bytes(wire))


def test_i_3_an_offer_with_the_certificate_of_another_key_is_refused():
    alice, bob = Person.named("alice"), Person.named("bob")
    location = replace(alice.location, static=StaticKey.from_bytes(sha256(b"thief's")))
    thief = desk_of(location, seed="thief")
    outgoing = thief.offer(bob.location.certificate, ice_half(), 0.0)
    with pytest.raises(IntroductionRefused) as caught:
        bob.desk.receive_offer_untrusted(outgoing.message, 0.0, wall_now=WALL_NOW)
    assert caught.value.code is RefusalCode.MALFORMED


def test_i_3_an_offer_with_a_certificate_by_nobody_is_refused():
    alice, bob = Person.named("alice"), Person.named("bob")
    stranger = Identity(SigningKey.from_seed(sha256(b"stranger")))
    certificate = replace(
        alice.location.certificate, identity_public=stranger.signing.public
    )
    desk = desk_of(replace(alice.location, certificate=certificate), seed="a")
    outgoing = desk.offer(bob.location.certificate, ice_half(), 0.0)
    with pytest.raises(IntroductionRefused, match="BadSignature"):
        bob.desk.receive_offer_untrusted(outgoing.message, 0.0, wall_now=WALL_NOW)


def test_an_offer_with_an_expired_certificate_is_refused_as_expired():
    alice, bob = Person.named("alice"), Person.named("bob")
    outgoing = alice.desk.offer(bob.location.certificate, alice.ice, 0.0)
    with pytest.raises(IntroductionRefused, match="certificate") as caught:
        bob.desk.receive_offer_untrusted(outgoing.message, 0.0, wall_now=AFTER_EXPIRY)
    assert caught.value.code is RefusalCode.EXPIRED


def test_secrets_stay_out_of_representations():
    at_alice, _ = introduced(
        Person.named("alice"), Person.named("bob"), early_data=b"whispered"
    )
    shown = repr(at_alice)
    assert at_alice.keys.send.hex() not in shown
    assert repr(at_alice.keys.send) not in shown
    assert PASSWORD not in shown
    assert "whispered" not in shown
