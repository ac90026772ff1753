"""The numbered rules of docs/protocols/introductions.md, on virtual links."""

from dataclasses import dataclass, field
from enum import Enum
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opnode.core.addresses import Candidate, Endpoint, IceHalf, pack
from opnode.core.crypto import StaticKey, sha256
from opnode.core.errors import IntroductionRefused, RefusalCode, RemoteProtocolError
from opnode.core.ids import short
from opnode.protocols.introductions import (
    Established,
    IncomingIntroduction,
    IncomingWithdrawn,
    OutgoingIntroduction,
)
from opnode.protocols.introductions.messages import Half, encode
from opnode.protocols.introductions.parts import MAX_SEALED
from opnode.protocols.noise import NoiseInitiator
from tests.unit.protocols.introductions.people import (
    PASSWORD,
    WALL_NOW,
    Person,
    host_candidate,
    ice_half,
    reflexive_candidate,
)

HOUR_S = 3600.0


def offer(caller: Person, callee: Person) -> OutgoingIntroduction:
    return caller.desk.offer(callee.location.certificate, caller.ice, 0.0)


def take(callee: Person, sealed: bytes, now: float = 0.0) -> IncomingIntroduction:
    incoming = callee.desk.receive_offer_untrusted(sealed, now, wall_now=WALL_NOW)
    assert incoming is not None
    return incoming


# --- I-1 sizes ---


def ipv6_candidate(number: int) -> Candidate:
    """The longest candidate there is: IPv6, with a base, with an MD5 foundation."""
    return Candidate(
        kind=("host", "srflx", "relay")[number % 3],
        endpoint=Endpoint(f"2001:db8::{number + 1}", 50_000),
        priority=2**31 - 1 - number,
        foundation=sha256(bytes([number])).hex()[:32],
        related=Endpoint(f"2001:db8:1::{number + 1}", 40_000),
    )


@pytest.mark.parametrize("count", [6, 8])
def test_i_1_offer_and_answer_with_the_longest_candidates_fit(count: int):
    alice, bob = Person.named("alice"), Person.named("bob")
    alice.ice = bob.ice = ice_half("ufra", *map(ipv6_candidate, range(count)))
    outgoing = offer(alice, bob)
    incoming = take(bob, outgoing.message)
    answer, _ = incoming.answer(bob.ice)
    assert len(incoming.ice.candidates) == count
    assert len(outgoing.message) <= MAX_SEALED
    assert len(answer) <= MAX_SEALED


# --- I-2 what an introducer learns ---


def traces_of(person: Person) -> list[bytes]:
    """Every byte string by which a person could be recognised in a capture."""
    certificate = person.location.certificate
    traces = [
        certificate.identity_public,
        certificate.location_public,
        certificate.static_public,
        certificate.peer_id,
        certificate.signature,
        certificate.name.encode(),
        short(certificate.peer_id).encode(),
        short(certificate.static_public).encode(),
        short(certificate.location_public).encode(),
        short(certificate.identity_public).encode(),
        person.ice.ufrag.encode(),
        person.ice.password.encode(),
    ]
    for candidate in person.ice.candidates:
        host = candidate.endpoint.host
        traces += [
            pack(candidate.endpoint),
            host.encode(),
            pack(candidate.endpoint)[:4],
        ]
        traces += [candidate.foundation.encode()]
    return traces


def test_i_2_a_capture_at_the_introducer_holds_no_trace_of_either_end():
    alice, bob = Person.named("alice"), Person.named("bob")
    alice.ice, bob.ice = ice_half("alic"), ice_half("bobb")
    outgoing = offer(alice, bob)
    answer, _ = take(bob, outgoing.message).answer(bob.ice)
    capture = outgoing.message + answer
    for trace in traces_of(alice) + traces_of(bob):
        assert trace not in capture


def test_i_2_the_same_traces_are_found_in_the_open_payload():
    """The test above can fail: unsealed, the payload shows nearly all of them."""
    alice = Person.named("alice")
    payload = encode(alice.desk.own_half(b"", alice.ice, b""), (MAX_SEALED,))
    assert sum(trace in payload for trace in traces_of(alice)) >= 10


def test_i_2_a_refusal_says_nothing_about_the_caller():
    alice, bob = Person.named("alice"), Person.named("bob")
    wire = bytearray(alice.location.certificate.pack())
    wire[-1] ^= 1
    bad = [
        Half(certificate=bytes(wire), ice=alice.ice),
        Half(certificate=b"no certificate", ice=alice.ice),
        Half(
            certificate=Person.named("carol").location.certificate.pack(), ice=alice.ice
        ),
    ]
    sealed = [seal_offer(alice, bob, encode(half, (MAX_SEALED,))) for half in bad]
    good = offer(alice, bob).message
    take(bob, good).decline()
    for message in [*sealed, good]:
        with pytest.raises(IntroductionRefused) as caught:
            bob.desk.receive_offer_untrusted(message, 0.0, wall_now=WALL_NOW)
        for trace in traces_of(alice):
            assert trace.decode("latin-1") not in str(caught.value)


def seal_offer(alice: Person, bob: Person, payload: bytes) -> bytes:
    """Any payload, genuinely sealed by Alice to Bob."""
    handshake = NoiseInitiator(
        alice.location.static,
        bob.static,
        ephemeral=StaticKey.from_bytes(sha256(payload)),
        prologue=b"opnode introduction 2" + bob.location.certificate.peer_id,
    )
    return handshake.write_message_1(payload)


# --- I-3 identity, and what a stolen key is good for ---


class Impostor(StaticKey):
    """Shows Alice's public key; all it can compute with is Bob's stolen secret."""

    __slots__ = ("stolen",)

    def __init__(self, stolen: StaticKey, shown: bytes) -> None:
        super().__init__(stolen.secret)
        self.stolen = stolen
        self.public = shown

    def exchange(self, their_public: bytes) -> bytes:
        if their_public == self.stolen.public:
            return self.stolen.exchange(self.public)
        return self.stolen.exchange(their_public)


def test_i_3_with_bobs_stolen_key_nobody_becomes_alice_to_bob():
    alice, bob = Person.named("alice"), Person.named("bob")
    forger = NoiseInitiator(
        Impostor(bob.location.static, alice.static),
        bob.static,
        ephemeral=StaticKey.from_bytes(sha256(b"of the thief")),
        prologue=b"opnode introduction 2" + bob.location.certificate.peer_id,
    )
    half = Half(certificate=alice.location.certificate.pack(), ice=ice_half())
    forged = forger.write_message_1(encode(half, (MAX_SEALED,)))
    answer, at_bob = take(bob, forged).answer(bob.ice)
    assert at_bob.peer == alice.location.certificate
    # Bob believes the name but nobody can read his answer: no keys, no connection.
    with pytest.raises(RemoteProtocolError):
        forger.read_message_2_untrusted(answer)
    assert bob.ice.password.encode() not in answer


def test_i_3_an_answer_to_another_offer_is_rejected():
    alice, bob = Person.named("alice"), Person.named("bob")
    first = offer(alice, bob)
    first_answer, _ = take(bob, first.message).answer(bob.ice)
    alice.desk.finish(first)
    second = offer(alice, bob)
    with pytest.raises(RemoteProtocolError):
        second.receive_answer_untrusted(first_answer, WALL_NOW)
    to_carol = offer(alice, Person.named("carol"))
    with pytest.raises(RemoteProtocolError):
        to_carol.receive_answer_untrusted(first_answer, WALL_NOW)


# --- I-7 replay ---


def test_i_7_a_replayed_offer_gets_the_cached_answer_or_a_refusal_for_ever():
    alice, bob = Person.named("alice"), Person.named("bob")
    outgoing = offer(alice, bob)
    answer, _ = take(bob, outgoing.message).answer(bob.ice)
    for now in (0.0, 10.0, 29.0, 31.0, 1e3, 1e6, 1e9):
        cached = bob.desk.cached_answer(outgoing.message, now)
        assert cached == (answer if now < 30.0 else None)
        with pytest.raises(IntroductionRefused) as caught:
            bob.desk.receive_offer_untrusted(outgoing.message, now, wall_now=WALL_NOW)
        assert caught.value.code is RefusalCode.EXPIRED
    assert bob.desk.statistics().offers_taken == 1


def test_i_7_an_offer_replayed_after_a_restart_gives_the_replayer_nothing():
    alice, bob = Person.named("alice"), Person.named("bob")
    outgoing = offer(alice, bob)
    answer, _ = take(bob, outgoing.message).answer(bob.ice)
    outgoing.receive_answer_untrusted(answer, WALL_NOW)
    restarted = Person.named("bob")
    restarted.desk.offer(Person.named("carol").location.certificate, ice_half(), 0.0)
    second, at_bob = take(restarted, outgoing.message).answer(bob.ice)
    with pytest.raises(IntroductionRefused):
        outgoing.receive_answer_untrusted(second, WALL_NOW)
    assert at_bob.keys.send not in second


# --- I-10 clocks ---


@pytest.mark.parametrize("skew", [-HOUR_S, 0.0, HOUR_S])
def test_i_10_an_hour_between_the_clocks_does_not_matter(skew: float):
    """Certificates are a day old here; nothing else in an offer is a time."""
    alice, bob = Person.named("alice"), Person.named("bob")
    wall = WALL_NOW + 24 * HOUR_S
    outgoing = alice.desk.offer(bob.location.certificate, alice.ice, 7.0)
    incoming = bob.desk.receive_offer_untrusted(
        outgoing.message, 1e6, wall_now=wall + skew
    )
    assert incoming is not None
    answer, _ = incoming.answer(bob.ice)
    outgoing.receive_answer_untrusted(answer, wall)


# --- I-4, I-5, I-7, I-8 together: any order of delivery ends in one connection ---


class Kind(Enum):
    OFFER = "offer"
    ANSWER = "answer"


@dataclass
class Flight:
    """One message on its way to one of the two ends."""

    kind: Kind
    to: int
    data: bytes


@dataclass
class End:
    """A driver in miniature: calls, repeats, answers, and keeps what it was told."""

    person: Person
    outgoing: OutgoingIntroduction | None = None
    live: dict[bytes, Established] = field(default_factory=dict)
    answered: dict[bytes, IncomingIntroduction] = field(default_factory=dict)


class Link:
    """Two ends and everything in flight between them; whoever drives it is the network.

    It loses, repeats and reorders; refusals need not travel, for they change nothing.
    """

    def __init__(self) -> None:
        self.ends = (End(Person.named("alice")), End(Person.named("bob")))
        self.flying: list[Flight] = []
        self.now = 0.0
        self.ever: tuple[set[bytes], set[bytes]] = (set(), set())

    def call(self, index: int) -> None:
        end, other = self.ends[index], self.ends[1 - index]
        if end.live or end.outgoing is not None:
            return
        try:
            end.outgoing = end.person.desk.offer(
                other.person.location.certificate, end.person.ice, self.now
            )
        except IntroductionRefused:
            # The other's call was taken before: this end waits for it (I-5).
            return
        self.repeat(index)

    def repeat(self, index: int) -> None:
        outgoing = self.ends[index].outgoing
        if outgoing is not None:
            self.flying.append(Flight(Kind.OFFER, 1 - index, outgoing.message))

    def give_up(self, index: int) -> None:
        end = self.ends[index]
        if end.outgoing is not None:
            end.person.desk.finish(end.outgoing)
            end.outgoing = None

    def deliver(self, flight: Flight) -> None:
        if flight.kind is Kind.OFFER:
            self._deliver_offer(flight)
        else:
            self._deliver_answer(flight)
        self._drain(flight.to)
        self.check_at_most_one()

    def _deliver_offer(self, flight: Flight) -> None:
        end = self.ends[flight.to]
        desk = end.person.desk
        answer = desk.cached_answer(flight.data, self.now)
        if answer is None:
            try:
                incoming = desk.receive_offer_untrusted(
                    flight.data, self.now, wall_now=WALL_NOW
                )
            except IntroductionRefused:
                return
            assert incoming is not None
            answer, established = incoming.answer(end.person.ice)
            end.live[established.offer_digest] = established
            end.answered[established.offer_digest] = incoming
            self.ever[flight.to].add(established.offer_digest)
        self.flying.append(Flight(Kind.ANSWER, 1 - flight.to, answer))

    def _deliver_answer(self, flight: Flight) -> None:
        end = self.ends[flight.to]
        if end.outgoing is None:
            return
        try:
            established = end.outgoing.receive_answer_untrusted(flight.data, WALL_NOW)
        except (IntroductionRefused, RemoteProtocolError):
            return
        end.outgoing = None
        end.live[established.offer_digest] = established
        self.ever[flight.to].add(established.offer_digest)

    def _drain(self, index: int) -> None:
        end = self.ends[index]
        while (event := end.person.desk.next_event()) is not None:
            if isinstance(event, IncomingWithdrawn):
                end.live.pop(event.offer_digest, None)
            else:
                assert end.outgoing is not None
                assert end.outgoing.digest == event.offer_digest
                end.outgoing = None

    def common(self) -> set[bytes]:
        return set(self.ends[0].live) & set(self.ends[1].live)

    def check_at_most_one(self) -> None:
        assert len(self.common()) <= 1

    def settle(self) -> None:
        """Both still want to talk, and the network is fair from now on."""
        for _ in range(6):
            for index in (0, 1):
                self.call(index)
                self.repeat(index)
            while self.flying:
                self.deliver(self.flying.pop(0))
            if self.common():
                return
            self._let_ice_fail()

    def _let_ice_fail(self) -> None:
        """What only one end holds carries nothing, and its owner notices."""
        self.now += 10.0
        for end in self.ends:
            for digest in end.live:
                end.person.desk.finish(end.answered[digest])
            end.live.clear()

    def check_exactly_one(self) -> None:
        (digest,) = self.common()
        first, second = (end.live[digest] for end in self.ends)
        assert first.initiator is not second.initiator
        assert first.keys.send == second.keys.receive
        assert first.keys.receive == second.keys.send


CALLS = ("call", "repeat")
NETWORK = ("deliver", "duplicate", "lose")
Step = tuple[str, int, int]


def steps(*actions: str) -> st.SearchStrategy[list[Step]]:
    one = st.tuples(st.sampled_from(actions), st.integers(0, 1), st.integers(0, 9))
    return st.lists(one, max_size=40)


def play(link: Link, played: list[Step]) -> None:
    for action, index, place in played:
        if action in ("call", "repeat", "give_up"):
            getattr(link, action)(index)
        elif link.flying:
            flight = link.flying[place % len(link.flying)]
            if action != "duplicate":
                link.flying.remove(flight)
            if action != "lose":
                link.deliver(flight)


@given(played=steps(*CALLS, *NETWORK))
def test_i_4_any_loss_order_and_repetition_ends_in_exactly_one_connection(
    played: list[Step],
):
    link = Link()
    play(link, played)
    link.settle()
    link.check_exactly_one()
    for end in link.ends:
        assert set(end.live) == link.common()
        assert end.outgoing is None
    assert len(link.ever[0] & link.ever[1]) == 1


@given(played=steps(*CALLS, *NETWORK, "give_up"))
def test_i_8_giving_up_and_calling_again_leaves_no_second_connection(
    played: list[Step],
):
    link = Link()
    play(link, played)
    link.settle()
    link.check_exactly_one()


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_i_4_crossing_offers_sent_twice_end_in_one_connection_in_every_order(
    order: tuple[int, ...],
):
    link = Link()
    for index in (0, 1):
        link.call(index)
        link.repeat(index)
    sent = list(link.flying)
    link.flying.clear()
    for place in order:
        link.deliver(sent[place])
    while link.flying:
        link.deliver(link.flying.pop())
    link.check_exactly_one()
    assert all(len(end.live) == 1 for end in link.ends)


def test_i_4_a_hundred_crossing_calls_end_in_one_connection_each():
    for number in range(100):
        alice, bob = Person.named(f"alice {number}"), Person.named(f"bob {number}")
        hers, his = offer(alice, bob), offer(bob, alice)
        taken = [
            attempt(bob, hers.message),
            attempt(alice, his.message),
        ]
        assert taken.count(True) == 1
        assert taken[0] is (hers.digest < his.digest)


def attempt(callee: Person, sealed: bytes) -> bool:
    try:
        take(callee, sealed)
    except IntroductionRefused:
        return False
    return True


def test_the_introducers_view_is_enough_for_the_ends_to_agree_on_candidates():
    alice, bob = Person.named("alice"), Person.named("bob")
    alice.ice = IceHalf("ufra", PASSWORD, (host_candidate(), reflexive_candidate()))
    assert take(bob, offer(alice, bob).message).ice == alice.ice
