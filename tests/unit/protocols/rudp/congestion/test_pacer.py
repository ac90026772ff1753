"""Bursts and waits of the token bucket."""

import pytest

from opnode.protocols.rudp.congestion.pacer import Pacer

SIZE = 1200
# 100 Mbit/s.
RATE = 12.5e6


def drained(*, now: float = 1.0) -> Pacer:
    pacer = Pacer(initial=10 * SIZE)
    assert pacer.budget(now, RATE, SIZE) >= 10 * SIZE
    pacer.on_sent(10 * SIZE)
    return pacer


def test_the_first_window_leaves_at_once():
    assert Pacer(initial=32 * SIZE).budget(1.0, RATE, SIZE) == 32 * SIZE + 1


def test_what_was_sent_is_earned_again_at_the_rate():
    pacer = drained()
    assert pacer.budget(1.0, RATE, SIZE) < SIZE
    assert pacer.budget(1.0005, RATE, SIZE) == pytest.approx(0.0005 * RATE, abs=2)


def test_after_a_pause_ten_packets_or_two_milliseconds_leave_at_once():
    assert drained().budget(9.0, RATE, SIZE) == pytest.approx(0.002 * RATE, abs=2)
    assert drained().budget(9.0, RATE / 100, SIZE) == 10 * SIZE + 1


def test_a_burst_is_a_millisecond_of_the_rate_and_two_packets_at_least():
    pacer = drained()
    assert pacer.enough(RATE, SIZE) == 12_500
    assert pacer.enough(RATE / 100, SIZE) == 2 * SIZE


def test_a_sender_who_waits_is_told_until_when_and_finds_enough_then():
    pacer = drained()
    assert pacer.next_send_at is None
    pacer.budget(1.0, RATE, SIZE)
    pacer.wait_for(12_500, 1.0, RATE)
    assert pacer.next_send_at == pytest.approx(1.001)
    assert pacer.budget(pacer.next_send_at, RATE, SIZE) >= 12_500


def test_a_sender_who_was_woken_late_may_catch_up_but_not_for_ever():
    pacer = drained()
    pacer.wait_for(12_500, 1.0, RATE)
    assert pacer.budget(1.02, RATE, SIZE) == pytest.approx(0.02 * RATE, abs=2)
    pacer = drained()
    pacer.wait_for(12_500, 1.0, RATE)
    assert pacer.budget(2.0, RATE, SIZE) == pytest.approx(0.025 * RATE, abs=2)


def test_a_deadline_that_has_come_is_forgotten_and_one_that_has_not_stays():
    pacer = drained()
    pacer.wait_for(12_500, 1.0, RATE)
    pacer.on_deadline(1.0005)
    assert pacer.next_send_at is not None
    pacer.on_deadline(1.0011)
    assert pacer.next_send_at is None


def test_a_wait_is_never_too_short_for_the_clock():
    pacer = drained()
    pacer.wait_for(0, 1.0, RATE)
    assert pacer.next_send_at is not None
    assert pacer.next_send_at > 1.0
