"""Signals: sealed, numbered, unlinkable, bounded."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opnode.core.addresses import Candidate, Endpoint, IceHalf
from opnode.core.crypto import TransportKeys
from opnode.core.errors import LocalProtocolError, RemoteProtocolError
from opnode.protocols.introductions.messages import (
    MAX_CANDIDATES,
    RelayPoint,
    Rendezvous,
)
from opnode.protocols.introductions.signals import (
    MAX_AHEAD,
    MAX_SIGNAL,
    TAG_LENGTH,
    Signal,
    SignalBox,
)
from tests.unit.protocols.introductions.people import (
    PASSWORD,
    host_candidate,
    ice_half,
    reflexive_candidate,
)

SIGNAL = Signal(
    generation=3,
    ice=ice_half("ufra", host_candidate(), reflexive_candidate()),
    rendezvous=Rendezvous(
        introducers=(Endpoint("192.0.2.77", 4000), Endpoint("2001:db8::7", 4001)),
        relays=(RelayPoint(Endpoint("192.0.2.88", 4000), b"8 bytes!"),),
    ),
    wants_answer=True,
)


def boxes() -> tuple[SignalBox, SignalBox]:
    one, other, shared = bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32
    here = TransportKeys(send=one, receive=other, handshake_hash=shared)
    there = TransportKeys(send=other, receive=one, handshake_hash=shared)
    return SignalBox(here, initiator=True), SignalBox(there, initiator=False)


def test_what_one_end_seals_the_other_opens():
    alice, bob = boxes()
    assert bob.open_untrusted(alice.seal(SIGNAL)) == SIGNAL
    answer = replace(SIGNAL, wants_answer=False)
    assert alice.open_untrusted(bob.seal(answer)) == answer


def test_a_signal_opens_at_the_other_end_only():
    alice, bob = boxes()
    with pytest.raises(RemoteProtocolError):
        alice.open_untrusted(alice.seal(SIGNAL))
    with pytest.raises(RemoteProtocolError):
        bob.open_untrusted(bob.seal(SIGNAL))


def test_a_signal_counts_as_heard_only_when_the_other_end_says_so():
    alice, bob = boxes()
    assert alice.is_heard
    sealed = alice.seal(SIGNAL)
    assert not alice.is_heard
    alice.open_untrusted(bob.seal(SIGNAL))
    assert not alice.is_heard
    bob.open_untrusted(sealed)
    alice.open_untrusted(bob.seal(SIGNAL))
    assert alice.is_heard


def test_s_2_a_copy_of_the_newest_is_told_from_news_and_older_ones_are_refused():
    alice, bob = boxes()
    first, second = alice.seal(SIGNAL), alice.seal(replace(SIGNAL, generation=4))
    assert bob.open_untrusted(second).generation == 4
    assert bob.open_untrusted(second) is None
    assert bob.duplicates == 1
    with pytest.raises(RemoteProtocolError, match="not for us"):
        bob.open_untrusted(first)


def test_s_3_no_two_signals_have_a_byte_string_in_common_that_links_them():
    alice, _ = boxes()
    seen = [alice.seal(SIGNAL) for _ in range(MAX_AHEAD)]
    assert len({sealed[:TAG_LENGTH] for sealed in seen}) == MAX_AHEAD
    for place, sealed in enumerate(seen):
        windows = {sealed[i : i + 6] for i in range(len(sealed) - 5)}
        for other in seen[place + 1 :]:
            assert not windows & {other[i : i + 6] for i in range(len(other) - 5)}


def test_s_4_a_sealed_signal_shows_none_of_its_words():
    alice, _ = boxes()
    sealed = alice.seal(SIGNAL)
    for text in (PASSWORD.encode(), b"ufra", b"8 bytes!", bytes([192, 0, 2, 77])):
        assert text not in sealed


def test_no_more_than_the_receiver_can_follow_are_sealed_unheard():
    alice, bob = boxes()
    sealed = [alice.seal(SIGNAL) for _ in range(MAX_AHEAD)]
    with pytest.raises(LocalProtocolError, match="unheard"):
        alice.seal(SIGNAL)
    assert bob.open_untrusted(sealed[-1]) == SIGNAL
    alice.open_untrusted(bob.seal(SIGNAL))
    assert bob.open_untrusted(alice.seal(SIGNAL)) == SIGNAL


def test_a_claim_to_have_heard_more_than_was_said_changes_nothing():
    alice, bob = boxes()
    bob._next_in = 1000
    alice.open_untrusted(bob.seal(SIGNAL))
    alice.seal(SIGNAL)
    assert not alice.is_heard


@given(data=st.binary(max_size=200), place=st.integers(0, 300))
def test_whatever_is_not_sealed_by_the_other_end_is_refused(data: bytes, place: int):
    alice, bob = boxes()
    genuine = alice.seal(SIGNAL)
    damaged = bytearray(genuine)
    damaged[place % len(damaged)] ^= 1
    for forged in (data, genuine[:TAG_LENGTH] + data, bytes(damaged)):
        with pytest.raises(RemoteProtocolError):
            bob.open_untrusted(forged)
    assert bob.open_untrusted(genuine) == SIGNAL


def test_the_longest_signal_is_one_datagram():
    alice, bob = boxes()
    candidates = [
        Candidate(
            kind="srflx",
            endpoint=Endpoint(f"2001:db8::{number + 1}", 40_000),
            priority=2_000_000_000 - number,
            foundation="f" * 32,
            related=Endpoint(f"2001:db8:1::{number + 1}", 40_000),
        )
        for number in range(MAX_CANDIDATES)
    ]
    relay = RelayPoint(Endpoint("2001:db8::88", 4000), b"8 bytes!")
    introducers = [Endpoint(f"2001:db8::{n}", 4000) for n in range(1, 4)]
    long = Signal(
        generation=2**32 - 1,
        ice=IceHalf("u" * 32, "p" * 64, tuple(candidates)),
        rendezvous=Rendezvous(introducers=tuple(introducers), relays=(relay, relay)),
        wants_answer=True,
    )
    sealed = alice.seal(long)
    assert len(sealed) <= MAX_SIGNAL
    assert len(bob.open_untrusted(sealed).ice.candidates) >= 6


def test_a_signal_that_no_reader_would_take_is_not_sealed():
    alice, _ = boxes()
    with pytest.raises(LocalProtocolError, match="of our own"):
        alice.seal(replace(SIGNAL, ice=IceHalf("abc", PASSWORD, ())))
    assert alice.is_heard


@pytest.mark.parametrize("payload", [b"", b"\x98", b"\x90", b"\xc1", b"text"])
def test_an_authentic_signal_of_another_shape_is_refused(payload: bytes):
    alice, bob = boxes()
    sealed = alice._seal.encrypt(bytes(12), payload, None)
    tag = next(iter(bob.tags()))
    with pytest.raises(RemoteProtocolError, match="signal of"):
        bob.open_untrusted(tag + sealed)
