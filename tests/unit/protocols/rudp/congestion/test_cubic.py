"""The window as RFC 9438, RFC 9406 and RFC 9002 §7 want it."""

import pytest

from opnode.protocols.rudp.congestion.controller import (
    AckSample,
    LossSample,
    RateSample,
    WindowLimits,
)
from opnode.protocols.rudp.congestion.cubic import Cubic

RTT_S = 0.1
SIZE = 1200


def new_window(packets: int = 10, maximum: int = 1 << 24) -> Cubic:
    limits = WindowLimits(initial=packets * SIZE, maximum=maximum, packet_size=SIZE)
    return Cubic(limits, rtt_s=RTT_S)


def ack(  # noqa: PLR0913 - names what differs from test to test
    cubic: Cubic,
    size: int,
    *,
    sent_at: float,
    now: float,
    rtt_s: float = RTT_S,
    is_limited: bool = True,
    number: int = 1,
    round_end: int = 0,
) -> AckSample:
    rate = RateSample(size, RTT_S, size, 0, size, 0, False)
    sample = AckSample(
        now=now,
        acked=size,
        lost=0,
        newest_sent_at=sent_at,
        largest_acked=number,
        next_number=max(round_end, number + 1),
        latest_rtt_s=rtt_s,
        smoothed_rtt_s=rtt_s,
        min_rtt_s=RTT_S,
        in_flight=0,
        is_limited=is_limited,
        rate=rate,
    )
    cubic.on_ack(sample)
    return sample


def lose(cubic: Cubic, *, sent_at: float, now: float) -> None:
    cubic.on_lost(LossSample(now, SIZE, sent_at, cubic.window, SIZE, False))


def grow(cubic: Cubic, *, start_s: float, duration_s: float) -> None:
    """Acknowledge a full window every round trip."""
    for step in range(1, int(duration_s / RTT_S) + 1):
        now = start_s + step * RTT_S
        ack(cubic, cubic.window, sent_at=now - RTT_S, now=now)


def test_slow_start_doubles_every_round_trip():
    cubic = new_window()
    assert cubic.in_slow_start
    grow(cubic, start_s=0.0, duration_s=0.35)
    assert cubic.window == 80 * SIZE


def test_the_window_ends_at_its_maximum():
    cubic = new_window(maximum=50_000)
    grow(cubic, start_s=0.0, duration_s=1.0)
    assert cubic.window == 50_000
    lose(cubic, sent_at=1.0, now=1.1)
    grow(cubic, start_s=1.1, duration_s=60.0)
    assert cubic.window == 50_000


def test_a_loss_cuts_to_seven_tenths_and_ends_slow_start():
    cubic = new_window(100)
    lose(cubic, sent_at=1.0, now=1.1)
    assert cubic.window == 84_000
    assert not cubic.in_slow_start


def test_losses_of_the_same_flight_cut_once():
    cubic = new_window(100)
    lose(cubic, sent_at=1.0, now=1.1)
    lose(cubic, sent_at=1.05, now=1.15)
    lose(cubic, sent_at=1.1, now=1.2)
    assert cubic.window == 84_000
    lose(cubic, sent_at=1.11, now=1.21)
    assert cubic.window == pytest.approx(58_800, abs=1)


def test_a_mark_cuts_as_a_loss_does_and_once_a_round_trip():
    cubic = new_window(100)
    sample = ack(cubic, SIZE, sent_at=1.0, now=1.1)
    before = cubic.window
    cubic.on_congestion_experienced(sample)
    cubic.on_congestion_experienced(sample)
    assert cubic.window == pytest.approx(0.7 * before, abs=1)


def test_packets_from_before_the_cut_do_not_grow_the_window():
    cubic = new_window(100)
    lose(cubic, sent_at=1.0, now=1.1)
    ack(cubic, 50_000, sent_at=1.05, now=1.15)
    assert cubic.window == 84_000


def test_the_window_never_falls_below_two_packets():
    cubic = new_window(2)
    for second in range(5):
        lose(cubic, sent_at=second + 0.5, now=second + 0.6)
    assert cubic.window == 2 * SIZE


def test_growth_is_slow_around_the_old_maximum_and_then_fast():
    cubic = new_window(1000)
    lose(cubic, sent_at=1.0, now=1.0)
    # K = cbrt(W_max * 0.3 / C) = 9.09 s (RFC 9438 §4.2).
    grow(cubic, start_s=1.0, duration_s=9.0)
    assert cubic.window == pytest.approx(1000 * SIZE, rel=0.02)
    at_plateau = cubic.window
    grow(cubic, start_s=10.0, duration_s=2.0)
    slow = cubic.window - at_plateau
    grow(cubic, start_s=12.0, duration_s=2.0)
    assert cubic.window - at_plateau - slow > 3 * slow


def test_a_small_window_grows_at_least_as_fast_as_reno():
    cubic = new_window(20)
    lose(cubic, sent_at=1.0, now=1.0)
    grow(cubic, start_s=1.0, duration_s=2.0)
    # alpha = 0.53 segments a round trip up to the old window (RFC 9438 §4.3).
    assert cubic.window >= (14 + 0.5 * 18) * SIZE * 0.95


def test_a_second_loss_below_the_old_maximum_leaves_room_to_others():
    cubic = new_window(100)
    lose(cubic, sent_at=1.0, now=1.0)
    lose(cubic, sent_at=2.0, now=2.0)
    # Fast convergence (RFC 9438 §4.7): the plateau is below the window that was lost.
    grow(cubic, start_s=2.0, duration_s=4.0)
    assert cubic.window < 70 * SIZE


def test_a_window_that_is_not_used_does_not_grow():
    cubic = new_window(100)
    ack(cubic, SIZE, sent_at=1.0, now=1.1, is_limited=False)
    assert cubic.window == 100 * SIZE


def test_time_without_data_does_not_count_as_growth():
    cubic = new_window(1000)
    lose(cubic, sent_at=1.0, now=1.0)
    grow(cubic, start_s=1.0, duration_s=1.0)
    before = cubic.window
    ack(cubic, SIZE, sent_at=99.8, now=99.9, is_limited=False)
    ack(cubic, SIZE, sent_at=99.9, now=100.0)
    assert 0 <= cubic.window - before < 3 * SIZE


def test_persistent_congestion_starts_over():
    cubic = new_window(100)
    lose(cubic, sent_at=1.0, now=1.1)
    cubic.on_persistent_congestion(1.1)
    assert cubic.window == 2 * SIZE
    assert cubic.in_slow_start
    ack(cubic, SIZE, sent_at=1.05, now=1.2)
    assert cubic.window == 3 * SIZE


def test_a_false_alarm_is_undone():
    cubic = new_window(100)
    lose(cubic, sent_at=1.0, now=1.1)
    cubic.on_spurious_loss(1.15)
    assert cubic.window == 100 * SIZE
    assert cubic.in_slow_start
    cubic.on_spurious_loss(1.2)
    assert cubic.window == 100 * SIZE


def test_a_false_alarm_in_the_middle_of_growth_lets_it_go_on():
    undone, untouched = new_window(1000), new_window(1000)
    for cubic in (undone, untouched):
        lose(cubic, sent_at=1.0, now=1.0)
        grow(cubic, start_s=1.0, duration_s=4.0)
    lose(undone, sent_at=4.95, now=5.0)
    undone.on_spurious_loss(5.0)
    for cubic in (undone, untouched):
        grow(cubic, start_s=5.0, duration_s=3.0)
    assert undone.window == pytest.approx(untouched.window, rel=0.01)


def test_the_cut_of_a_mark_is_never_undone():
    cubic = new_window(100)
    sample = ack(cubic, SIZE, sent_at=1.0, now=1.1)
    lose(cubic, sent_at=1.0, now=1.1)
    sample = sample._replace(newest_sent_at=1.2, now=1.3)
    cubic.on_congestion_experienced(sample)
    after = cubic.window
    cubic.on_spurious_loss(1.4)
    assert cubic.window == after


def test_the_rate_is_two_windows_a_round_trip_in_slow_start_then_a_quarter_more():
    cubic = new_window(100)
    assert cubic.pacing_rate == pytest.approx(2 * 100 * SIZE / RTT_S)
    lose(cubic, sent_at=1.0, now=1.1)
    assert cubic.pacing_rate == pytest.approx(1.25 * cubic.window / RTT_S)


def test_a_growing_queue_ends_slow_start_without_a_loss():
    cubic = new_window(64)
    number, now = 0, 0.0
    for rtt_s in (0.1, 0.1, 0.13, 0.13, 0.16, 0.16):
        for place in range(16):
            number += 1
            now += rtt_s / 16
            ack(
                cubic,
                4 * SIZE,
                sent_at=now - rtt_s,
                now=now,
                rtt_s=rtt_s,
                number=number,
                round_end=number + 16 - place,
            )
    assert not cubic.in_slow_start
    before = cubic.window
    ack(cubic, before, sent_at=now, now=now + 0.1)
    assert cubic.window < before + 4 * SIZE


def test_larger_packets_grow_the_window_in_their_own_size():
    small, large = new_window(100), new_window(100)
    large.packet_size = 4 * SIZE
    for cubic in (small, large):
        lose(cubic, sent_at=1.0, now=1.0)
        grow(cubic, start_s=1.0, duration_s=1.0)
    assert large.window > small.window
