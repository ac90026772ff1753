"""States and timers at the end of a connection."""

import random

import pytest

from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.lifetime import ConnectionState, Lifetime


def new_lifetime(**settings: float) -> Lifetime:
    return Lifetime(RudpConfig(**settings), random.Random(3))


def test_silence_starts_to_count_with_the_first_word():
    lifetime = new_lifetime()
    assert lifetime.deadlines() == (None, None)
    assert not lifetime.is_idle(1e9)
    lifetime.on_heard(10.0)
    assert lifetime.is_idle(100.0)
    assert not lifetime.is_idle(99.9)


def test_keep_alives_come_after_80_to_100_percent_of_their_interval():
    lifetime = new_lifetime(keep_alive_s=10.0)
    lifetime.on_heard(0.0)
    times = []
    now = 0.0
    for _ in range(20):
        _, due = lifetime.deadlines()
        assert due is not None
        assert not lifetime.takes_keep_alive(due - 0.01)
        assert lifetime.takes_keep_alive(due)
        times.append(due - now)
        now = due
    # They fall on quarters of a second, so up to that much earlier.
    assert all(7.75 <= time <= 10.0 for time in times)
    assert len(set(times)) > 5


def test_keep_alives_of_many_connections_fall_on_the_same_instants():
    instants = set()
    for number in range(200):
        lifetime = Lifetime(RudpConfig(keep_alive_s=10.0), random.Random(number))
        lifetime.on_heard(1000 + number / 7)
        instants.add(lifetime.deadlines()[1])
    assert all(at is not None and (at * 4).is_integer() for at in instants)


def test_a_keep_alive_shorter_than_the_common_instants_still_comes():
    lifetime = new_lifetime(keep_alive_s=0.1)
    lifetime.on_heard(10.05)
    _, due = lifetime.deadlines()
    assert due is not None
    assert 10.05 < due <= 10.15


def test_without_keep_alive_none_is_due():
    lifetime = new_lifetime(keep_alive_s=0.0)
    lifetime.on_heard(0.0)
    assert not lifetime.takes_keep_alive(1e9)


def test_closing_repeats_and_ends():
    lifetime = new_lifetime()
    lifetime.start_closing(b"close", now=1.0, timeout_s=0.1)
    assert lifetime.state is ConnectionState.CLOSING
    sent_at = []
    now: float | None = 1.0
    while now is not None:
        if lifetime.close_pending:
            lifetime.on_close_sent(now)
            sent_at.append(now)
        now = min((t for t in lifetime.deadlines() if t is not None), default=None)
        if now is not None:
            lifetime.on_deadline_while_closing(now)
    assert sent_at == [1.0, pytest.approx(1.1), pytest.approx(1.2)]
    assert lifetime.state is ConnectionState.TERMINATED
    lifetime.on_packet_while_closing()
    assert not lifetime.close_pending


def test_draining_answers_once():
    lifetime = new_lifetime()
    lifetime.start_draining(b"close", now=1.0, timeout_s=0.1)
    assert lifetime.state is ConnectionState.DRAINING
    lifetime.on_close_sent(1.0)
    lifetime.on_packet_while_closing()
    assert not lifetime.close_pending
    lifetime.on_deadline_while_closing(1.1)
    assert lifetime.state is ConnectionState.DRAINING
    lifetime.on_deadline_while_closing(1.31)
    assert lifetime.state is ConnectionState.TERMINATED


def test_a_terminated_connection_repeats_nothing():
    lifetime = new_lifetime()
    lifetime.start_closing(b"close", now=1.0, timeout_s=0.1)
    lifetime.terminate()
    lifetime.on_packet_while_closing()
    assert not lifetime.close_pending
    assert lifetime.deadlines() == ()


@pytest.mark.parametrize("start", [Lifetime.start_closing, Lifetime.start_draining])
def test_the_end_takes_no_longer_than_3_s_whatever_the_round_trip(start):
    lifetime = new_lifetime()
    start(lifetime, b"close", now=1.0, timeout_s=60.0)
    copies = 0
    while lifetime.state is not ConnectionState.TERMINATED:
        if lifetime.close_pending:
            lifetime.on_close_sent(1.0)
            copies += 1
        now = min(t for t in lifetime.deadlines() if t is not None)
        assert now <= 4.0
        lifetime.on_deadline_while_closing(now)
    assert copies >= 1
