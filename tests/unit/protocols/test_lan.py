"""`lan`: only who knows an identity finds it, and nobody gets more than it sent."""

import itertools

import msgspec
import pytest

from opnode.core.addresses import Endpoint, pack
from opnode.core.crypto import SigningKey, StaticKey, new_aead, sha256
from opnode.core.peerfile import Identity, certify_location
from opnode.protocols.lan import (
    HELLO_SIZE,
    SEEK_SIZE,
    LanConfig,
    LanDesk,
    NodeHere,
    PeerHere,
    Reply,
)
from opnode.testing.clock import DEFAULT_BASE
from opnode.testing.keys import seeded_signing_key

WALL = DEFAULT_BASE
ASKER = Endpoint("192.168.1.7", 50000)
OWN = (Endpoint("192.168.1.9", 4000), Endpoint("fd00::9", 4000))


def location_of(name, device="laptop" * 5):
    return certify_location(
        Identity(seeded_signing_key(name)),
        signing=seeded_signing_key(f"{name} {device}"),
        static=StaticKey.from_bytes(sha256(device.encode())),
        name=device,
        wall_now=WALL,
        lifetime_s=86_400,
    )


ANN = location_of("ann")
PEER = ANN.certificate.peer_id
NODE_KEY = SigningKey.from_seed(bytes(32))


def desk(name, network=b"network1", **limits):
    counter = itertools.count()

    def draw(size):
        return sha256(name.encode(), str(next(counter)).encode())[:size]

    return LanDesk(network, draw, LanConfig(**limits))


def hear(at, data, source=ASKER, own=OWN, now=0.0, wall_now=WALL):
    return at.receive_untrusted(data, source, own, now=now, wall_now=wall_now)


@pytest.fixture
def ann():
    made = desk("ann")
    made.location = ANN
    return made


@pytest.fixture
def bob():
    return desk("bob")


def test_who_knows_an_identity_finds_it_with_what_it_signed(ann, bob):
    nonce, seek = bob.seek(PEER)
    answer = hear(ann, seek)
    assert isinstance(answer, Reply)
    found = hear(bob, answer.datagram, source=Endpoint("192.168.1.9", 47848))
    # Of another family than the one it came by nothing is believed.
    assert found == PeerHere(
        nonce=nonce, certificate=ANN.certificate, endpoints=OWN[:1]
    )
    assert bob.statistics().found == ann.statistics().answered == 1


def test_an_answer_is_never_larger_than_its_question(ann, bob):
    assert len(ANN.certificate.name) == 30
    own = [Endpoint(f"fd00::{n}", 65535) for n in range(1, 9)]
    _, seek = bob.seek(PEER)
    assert len(hear(ann, seek, own=own).datagram) <= len(seek) == SEEK_SIZE
    ann.node_key = NODE_KEY
    _, greeting = bob.hello()
    assert len(hear(ann, greeting).datagram) <= len(greeting) == HELLO_SIZE


def test_a_question_too_short_to_pay_is_not_answered(ann, bob):
    ann.node_key = NODE_KEY
    for _, question in (bob.seek(PEER), bob.hello()):
        assert hear(ann, question[:-1]) is None
        assert hear(ann, question) is not None


def test_a_question_for_another_says_nothing_to_anybody(ann, bob):
    _, seek = bob.seek(location_of("carol").certificate.peer_id)
    assert hear(ann, seek) is None
    assert PEER not in seek
    # Two questions for one identity have nothing in common that a listener could see.
    (_, one), (_, two) = bob.seek(PEER), bob.seek(PEER)
    assert one[14:46] != two[14:46]


def test_the_answer_is_closed_to_whoever_does_not_know_the_identity(ann, bob):
    _, seek = bob.seek(PEER)
    datagram = hear(ann, seek).datagram
    certificate = ANN.certificate
    for public in (certificate.identity_public, certificate.location_public, b"laptop"):
        assert public not in datagram


def test_an_answer_counts_for_its_question_alone(ann, bob):
    nonce, seek = bob.seek(PEER)
    answer = hear(ann, seek).datagram
    bob.forget(nonce)
    assert hear(bob, answer) is None
    other, _ = bob.seek(PEER)
    assert hear(bob, answer.replace(nonce, other)) is None
    assert bob.statistics().malformed == 1


def test_a_changed_answer_is_none(ann, bob):
    _, seek = bob.seek(PEER)
    answer = hear(ann, seek).datagram
    for place in (30, 46, 60, len(answer) - 1):
        changed = bytearray(answer)
        changed[place] ^= 1
        assert hear(bob, bytes(changed)) is None
    assert isinstance(hear(bob, answer), PeerHere)


def forged(nonce, signing, certificate=ANN.certificate):
    """HERE by somebody who knows the identity and its public certificate."""
    salt, packed = bytes(16), [pack(Endpoint("192.168.1.66", 6))]
    listed = b"".join(bytes((len(one),)) + one for one in packed)
    statement = b"opnode lan here\0" + b"network1" + nonce + salt + listed
    body = [certificate.pack(), packed, signing.sign(statement)]
    key = sha256(b"opnode lan here key", nonce, salt, PEER)
    sealed = new_aead(key).encrypt(bytes(12), msgspec.msgpack.encode(body), None)
    return b"opln\x01\x02network1" + nonce + salt + sealed


def test_only_the_location_itself_can_answer_not_all_who_know_the_identity(bob):
    nonce, _ = bob.seek(PEER)
    carol = location_of("carol")
    assert hear(bob, forged(nonce, seeded_signing_key("mallory"))) is None
    # One's own good certificate does not make one somebody else.
    assert hear(bob, forged(nonce, carol.signing, carol.certificate)) is None
    assert isinstance(hear(bob, forged(nonce, ANN.signing)), PeerHere)


def test_an_expired_certificate_is_not_believed(ann, bob):
    _, seek = bob.seek(PEER)
    answer = hear(ann, seek).datagram
    assert hear(bob, answer, wall_now=WALL + 10 * 86_400) is None


def test_one_does_not_answer_oneself(ann):
    ann.node_key = NODE_KEY
    for _, question in (ann.seek(PEER), ann.hello()):
        assert hear(ann, question) is None


def test_a_server_proves_its_key_to_whoever_greets_it(ann, bob):
    nonce, greeting = bob.hello()
    assert hear(ann, greeting) is None
    ann.node_key = NODE_KEY
    answer = hear(ann, greeting).datagram
    here = Endpoint("192.168.1.9", 47848)
    assert hear(bob, answer, source=here) == NodeHere(
        nonce=nonce, public_key=NODE_KEY.public, endpoint=OWN[0]
    )
    for place in (30, 62, len(answer) - 1):
        changed = bytearray(answer)
        changed[place] ^= 1
        assert hear(bob, bytes(changed), source=here) is None
    assert hear(bob, answer[:-1], source=here) is None


def test_another_kind_of_answer_than_was_asked_for_is_none(ann, bob):
    ann.node_key = NODE_KEY
    sought, seek = bob.seek(PEER)
    greeted, greeting = bob.hello()
    here, back = hear(ann, seek).datagram, hear(ann, greeting).datagram
    assert hear(bob, here.replace(sought, greeted)) is None
    assert hear(bob, back.replace(greeted, sought)) is None


def test_another_network_and_noise_are_ignored(ann, bob):
    _, seek = desk("bob", network=b"network2").seek(PEER)
    for data in (seek, b"", b"opln\x01", bytes(600), b"opln\x02" + seek[5:]):
        assert hear(ann, data) is None
    assert ann.statistics().ignored == 5


def test_answers_to_one_host_and_in_all_are_rationed(bob):
    ann = desk("ann", answers_per_s=1.0, answers_burst=2.0, total_per_s=5.0)
    ann.location = ANN

    def asks(host, now):
        return hear(ann, bob.seek(PEER)[1], source=Endpoint(host, 1), now=now)

    assert [asks("192.168.1.7", 0.0) is not None for _ in range(5)] == [
        *[True] * 3,
        *[False] * 2,
    ]
    assert asks("192.168.1.7", 1.5) is not None
    assert [asks(f"192.168.2.{n}", 1.5) is not None for n in range(9)].count(True) <= 6
    assert ann.statistics().limited >= 4


def test_a_question_beyond_the_rate_costs_no_signature(bob, monkeypatch):
    ann = desk("ann", answers_per_s=1.0, answers_burst=2.0)
    ann.node_key = NODE_KEY
    signed = []
    sign = SigningKey.sign
    monkeypatch.setattr(
        SigningKey, "sign", lambda key, data: signed.append(data) or sign(key, data)
    )
    for _ in range(20):
        hear(ann, bob.hello()[1])
    assert len(signed) == ann.statistics().answered == 3


def test_no_more_questions_are_open_than_the_limit():
    bob = desk("bob", asking=2)
    for _ in range(5):
        bob.seek(PEER)
    assert len(bob._sought) == 2
