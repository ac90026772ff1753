"""The sessions of a relay: who may join, what passes, and how it ends."""

import dataclasses

import pytest

from opnode.core.addresses import Endpoint
from opnode.protocols.relay import (
    Ended,
    JoinRefusal,
    JoinRefused,
    Place,
    RelayConfig,
    RelayEnd,
    RelaySessions,
    Terms,
)

NAME = b"session1"
ALICE, BOB = b"a" * 16, b"b" * 16
AT_ALICE = Endpoint("192.0.2.1", 1000)
AT_BOB = Endpoint("198.51.100.2", 2000)
STRANGER = Endpoint("203.0.113.3", 3000)
STEP = 1209


def join(
    sessions: RelaySessions, name: bytes, secret: bytes, at: Endpoint, now: float = 0.0
) -> Terms:
    return sessions.join(name, secret, Place(at, at.host), now)


def opened(**limits: float) -> RelaySessions:
    """A relay with one complete session at time 0."""
    sessions = RelaySessions(dataclasses.replace(RelayConfig(), **limits))
    assert not join(sessions, NAME, ALICE, AT_ALICE, 0.0).is_complete
    assert join(sessions, NAME, BOB, AT_BOB, 0.0).is_complete
    return sessions


def forward(
    sessions: RelaySessions, source: Endpoint, size: int = STEP, now: float = 0.0
) -> tuple[Endpoint, int] | None:
    return sessions.forward_untrusted(NAME, source, size, STEP, now)


def refusal_of(sessions, name, secret, source, now=0.0):
    with pytest.raises(JoinRefused) as refused:
        join(sessions, name, secret, source, now)
    return refused.value.reason


def test_frames_pass_between_the_two_members_and_from_nobody_else():
    sessions = opened()
    assert forward(sessions, AT_ALICE) == (AT_BOB, STEP)
    assert forward(sessions, AT_BOB) == (AT_ALICE, STEP)
    assert forward(sessions, STRANGER) is None
    assert sessions.forward_untrusted(b"other123", AT_ALICE, STEP, STEP, 0.0) is None
    figures = sessions.statistics()
    assert figures.bytes_relayed == 2 * STEP
    assert figures.bytes_dropped == 2 * STEP
    assert (figures.sessions, figures.complete) == (1, 1)


def test_nothing_passes_before_the_second_member_is_here():
    sessions = RelaySessions(RelayConfig())
    join(sessions, NAME, ALICE, AT_ALICE, 0.0)
    assert forward(sessions, AT_ALICE) is None


def test_a_third_member_is_refused():
    assert refusal_of(opened(), NAME, b"c" * 16, STRANGER) is JoinRefusal.TAKEN


def test_a_member_that_joins_from_a_new_address_moves_its_end():
    sessions = opened()
    assert join(sessions, NAME, ALICE, STRANGER, 1.0).is_complete
    assert forward(sessions, AT_BOB, now=1.0) == (STRANGER, STEP)
    assert forward(sessions, AT_ALICE, now=1.0) is None


def test_one_address_is_one_end():
    sessions = RelaySessions(RelayConfig())
    join(sessions, NAME, ALICE, AT_ALICE, 0.0)
    assert refusal_of(sessions, NAME, BOB, AT_ALICE) is JoinRefusal.TAKEN
    assert refusal_of(opened(), NAME, ALICE, AT_BOB) is JoinRefusal.TAKEN


def test_the_terms_tell_what_is_left():
    sessions = opened(session_bytes=10 * STEP, lifetime_s=100.0)
    forward(sessions, AT_ALICE, 4 * STEP)
    terms = join(sessions, NAME, ALICE, AT_ALICE, 40.0)
    assert terms.is_complete
    assert terms.bytes_left == 6 * STEP
    assert terms.lifetime_s == 60.0
    assert terms.bytes_per_s == RelayConfig().session_bytes_per_s


def test_the_rate_told_is_never_above_that_of_all():
    sessions = RelaySessions(RelayConfig(total_bytes_per_s=1000.0))
    assert join(sessions, NAME, ALICE, AT_ALICE, 0.0).bytes_per_s == 1000.0


def test_a_session_that_used_its_bytes_ends_and_tells_both():
    sessions = opened(session_bytes=3 * STEP)
    assert forward(sessions, AT_ALICE, 2 * STEP) == (AT_BOB, 2 * STEP)
    assert forward(sessions, AT_ALICE, 2 * STEP) == (AT_BOB, STEP)
    assert forward(sessions, AT_ALICE) is None
    expected = Ended(NAME, RelayEnd.BYTES, (AT_ALICE, AT_BOB))
    assert sessions.next_ended() == expected
    assert sessions.next_ended() is None
    assert sessions.statistics().ended == (("BYTES", 1),)


def test_what_is_left_below_one_frame_ends_the_session_too():
    sessions = opened(session_bytes=STEP + 1)
    assert forward(sessions, AT_ALICE, 2 * STEP) == (AT_BOB, STEP)
    assert forward(sessions, AT_ALICE, STEP) is None
    ended = sessions.next_ended()
    assert ended is not None
    assert ended.reason is RelayEnd.BYTES


def test_two_hosts_that_used_a_session_up_wait_for_the_next_one():
    sessions = opened(session_bytes=STEP, rest_s=60.0)
    forward(sessions, AT_ALICE)
    other_port = Endpoint(AT_BOB.host, 4444)
    join(sessions, b"another1", ALICE, AT_ALICE, 1.0)
    assert refusal_of(sessions, b"another1", BOB, other_port, 1.0) is (
        JoinRefusal.RESTING
    )
    join(sessions, b"another2", ALICE, AT_ALICE, 61.0)
    assert join(sessions, b"another2", BOB, other_port, 61.0).is_complete


def test_above_its_rate_a_session_gets_the_first_frames_of_a_run_through():
    sessions = opened(
        session_bytes_per_s=1e5, min_burst=10 * STEP, burst_s=0.001, rest_s=1.0
    )
    assert forward(sessions, AT_ALICE, 20 * STEP) == (AT_BOB, 10 * STEP)
    assert forward(sessions, AT_ALICE) is None
    sent = 0
    for tick in range(1, 101):
        passed = forward(sessions, AT_ALICE, 2 * STEP, tick * 0.01)
        sent += passed[1] if passed else 0
    assert sent == pytest.approx(1e5, rel=0.05)


def test_the_rate_of_all_bounds_what_many_sessions_get_together():
    sessions = RelaySessions(
        RelayConfig(total_bytes_per_s=2e5, session_bytes_per_s=1e5, min_burst=STEP)
    )
    names = [bytes([number]) * 8 for number in range(5)]
    ends = [Endpoint("192.0.2.9", 1 + number) for number in range(5)]
    for name, end in zip(names, ends, strict=True):
        join(sessions, name, ALICE, end, 0.0)
        join(sessions, name, BOB, AT_BOB, 0.0)
    for tick in range(1000):
        now = tick * 0.01
        for name, end in zip(names, ends, strict=True):
            sessions.forward_untrusted(name, end, STEP, STEP, now)
    assert sessions.statistics().bytes_relayed == pytest.approx(2e6, rel=0.05)


def test_new_sessions_are_refused_while_the_rate_of_all_is_used_up():
    sessions = opened(
        total_bytes_per_s=3e4, least_bytes_per_s=16e3, min_burst=STEP, spent_s=5.0
    )
    forward(sessions, AT_ALICE, 100 * STEP)
    forward(sessions, AT_ALICE, 100 * STEP)
    assert refusal_of(sessions, b"another1", ALICE, STRANGER, 1.0) is JoinRefusal.SPENT
    join(sessions, b"another1", ALICE, STRANGER, 6.0)


def test_who_sends_most_loses_most_and_a_call_beside_it_loses_nothing():
    sessions = opened(
        total_bytes_per_s=1e5, session_bytes_per_s=1e5, min_burst=16 * STEP
    )
    join(sessions, b"callcall", ALICE, Endpoint(AT_ALICE.host, 9), 0.0)
    join(sessions, b"callcall", BOB, Endpoint(AT_BOB.host, 9), 0.0)
    call, download = 0, 0
    for tick in range(1000):
        now = tick * 0.01
        passed = forward(sessions, AT_ALICE, 10 * STEP, now)
        download += passed[1] if passed else 0
        heard = sessions.forward_untrusted(
            b"callcall", Endpoint(AT_ALICE.host, 9), 300, 300, now
        )
        call += heard[1] if heard else 0
    assert call == 1000 * 300
    assert download > 0.7 * (1e6 - call)


def test_sessions_of_one_host_and_of_all_are_bounded():
    sessions = RelaySessions(RelayConfig(max_sessions=3, sessions_per_host=2))
    join(sessions, b"session1", ALICE, AT_ALICE, 0.0)
    join(sessions, b"session2", ALICE, Endpoint(AT_ALICE.host, 7), 0.0)
    refused = refusal_of(sessions, b"session3", ALICE, AT_ALICE)
    assert refused is JoinRefusal.HOST_FULL
    join(sessions, b"session3", ALICE, AT_BOB, 0.0)
    assert refusal_of(sessions, b"session4", ALICE, STRANGER) is JoinRefusal.FULL
    assert sessions.statistics().refused == (("FULL", 1), ("HOST_FULL", 1))
    sessions.leave(b"session1", AT_ALICE, 0.0)
    join(sessions, b"session4", ALICE, AT_ALICE, 0.0)


def test_addresses_of_one_ipv6_site_are_one_host():
    sessions = RelaySessions(RelayConfig(sessions_per_host=1))
    join(sessions, b"session1", ALICE, Endpoint("2001:db8:1:2::1", 1), 0.0)
    neighbour = Endpoint("2001:db8:1:2:ffff::9", 1)
    refused = refusal_of(sessions, b"session2", ALICE, neighbour)
    assert refused is JoinRefusal.HOST_FULL
    join(sessions, b"session2", ALICE, Endpoint("2001:db8:1:3::1", 1), 0.0)


def test_a_member_cannot_move_to_a_host_that_has_all_its_sessions():
    sessions = opened(sessions_per_host=1)
    refused = refusal_of(sessions, NAME, ALICE, Endpoint(AT_BOB.host, 9))
    assert refused is JoinRefusal.HOST_FULL
    assert forward(sessions, AT_ALICE) == (AT_BOB, STEP)
    moved = join(sessions, NAME, ALICE, Endpoint(AT_ALICE.host, 9), 0.0)
    assert moved.is_complete


def test_a_session_in_which_somebody_stays_alone_ends():
    sessions = RelaySessions(RelayConfig())
    assert sessions.next_deadline() is None
    join(sessions, NAME, ALICE, AT_ALICE, 0.0)
    due = sessions.next_deadline()
    assert due == RelayConfig().alone_s
    sessions.handle_deadline(due)
    assert sessions.next_ended() == Ended(NAME, RelayEnd.ALONE, (AT_ALICE,))
    assert len(sessions) == 0


def test_a_session_ends_when_one_member_is_not_heard_again():
    sessions = opened()
    join(sessions, NAME, ALICE, AT_ALICE, 100.0)
    due = sessions.next_deadline()
    assert due == RelayConfig().member_s
    sessions.handle_deadline(due)
    ended = sessions.next_ended()
    assert ended is not None
    assert ended.reason is RelayEnd.ALONE


def test_a_session_ends_with_its_lifetime_however_busy_it_is():
    sessions = opened(lifetime_s=50.0)
    for now in (20.0, 40.0):
        join(sessions, NAME, ALICE, AT_ALICE, now)
        join(sessions, NAME, BOB, AT_BOB, now)
    assert sessions.next_deadline() == 50.0
    sessions.handle_deadline(49.0)
    assert sessions.next_ended() is None
    sessions.handle_deadline(50.0)
    ended = sessions.next_ended()
    assert ended is not None
    assert ended.reason is RelayEnd.LIFETIME


def test_only_a_member_ends_a_session_and_only_the_other_one_is_told():
    sessions = opened()
    assert not sessions.leave(NAME, STRANGER, 0.0)
    assert not sessions.leave(b"unknown1", AT_ALICE, 0.0)
    assert sessions.leave(NAME, AT_ALICE, 0.0)
    assert sessions.next_ended() == Ended(NAME, RelayEnd.LEFT, (AT_BOB,))


def test_a_relay_that_stops_tells_everybody():
    sessions = opened()
    sessions.stop(1.0)
    assert sessions.next_ended() == Ended(NAME, RelayEnd.STOPPED, (AT_ALICE, AT_BOB))
    assert len(sessions) == 0


def test_pairs_at_rest_are_bounded_and_forgotten_in_time():
    sessions = RelaySessions(RelayConfig(max_resting=2, session_bytes=1, rest_s=10.0))
    for number in range(4):
        name = bytes([number]) * 8
        join(sessions, name, ALICE, Endpoint(f"192.0.2.{number}", 1), 0.0)
        join(sessions, name, BOB, AT_BOB, 0.0)
        sessions.forward_untrusted(name, AT_BOB, STEP, STEP, 0.0)
    join(sessions, b"again123", ALICE, Endpoint("192.0.2.0", 1), 1.0)
    assert join(sessions, b"again123", BOB, AT_BOB, 1.0).is_complete
    sessions.handle_deadline(20.0)
    join(sessions, b"again321", ALICE, Endpoint("192.0.2.3", 1), 5.0)
    assert join(sessions, b"again321", BOB, AT_BOB, 5.0).is_complete


def test_who_comes_by_a_carrier_takes_the_share_of_the_host_behind_it():
    sessions = RelaySessions(RelayConfig(sessions_per_host=1))
    name = Endpoint("100::1", 1)
    sessions.join(b"session1", ALICE, Place(name, "192.0.2.1"), 0.0)
    refused = refusal_of(sessions, b"session2", ALICE, AT_ALICE)
    assert refused is JoinRefusal.HOST_FULL
    other = Place(Endpoint("100::2", 1), "192.0.2.2")
    assert not sessions.join(b"session2", ALICE, other, 0.0).is_complete
