"""The congestion window as RFC 9438 and RFC 9002 §7 want it."""

import pytest

from opnode.protocols.rudp.congestion import CongestionWindow
from opnode.protocols.rudp.packet import BASE_PACKET_SIZE

RTT_S = 0.1


def new_window(packets: int = 10) -> CongestionWindow:
    return CongestionWindow(initial=packets * BASE_PACKET_SIZE, maximum=1 << 24)


def grow(window: CongestionWindow, *, start_s: float, duration_s: float) -> None:
    """Acknowledge a full window every round trip."""
    steps = int(duration_s / RTT_S)
    for step in range(1, steps + 1):
        now = start_s + step * RTT_S
        window.on_acked(window.window, sent_at=now - RTT_S, now=now, rtt_s=RTT_S)


def test_slow_start_doubles_every_round_trip():
    window = new_window()
    assert window.in_slow_start
    grow(window, start_s=0.0, duration_s=0.35)
    assert window.window == 80 * BASE_PACKET_SIZE


def test_the_window_ends_at_its_maximum():
    window = CongestionWindow(initial=10 * BASE_PACKET_SIZE, maximum=50_000)
    grow(window, start_s=0.0, duration_s=1.0)
    assert window.window == 50_000
    window.on_lost(sent_at=1.0, now=1.1)
    grow(window, start_s=1.1, duration_s=60.0)
    assert window.window == 50_000


def test_a_loss_cuts_to_seven_tenths_and_ends_slow_start():
    window = new_window(100)
    window.on_lost(sent_at=1.0, now=1.1)
    assert window.window == 84_000
    assert not window.in_slow_start


def test_losses_of_the_same_flight_cut_once():
    window = new_window(100)
    window.on_lost(sent_at=1.0, now=1.1)
    window.on_lost(sent_at=1.05, now=1.15)
    window.on_lost(sent_at=1.1, now=1.2)
    assert window.window == 84_000
    window.on_lost(sent_at=1.11, now=1.21)
    assert window.window == pytest.approx(58_800, abs=1)


def test_packets_from_before_the_cut_do_not_grow_the_window():
    window = new_window(100)
    window.on_lost(sent_at=1.0, now=1.1)
    window.on_acked(50_000, sent_at=1.05, now=1.15, rtt_s=RTT_S)
    assert window.window == 84_000


def test_the_window_never_falls_below_two_packets():
    window = new_window(2)
    for second in range(5):
        window.on_lost(sent_at=second + 0.5, now=second + 0.6)
    assert window.window == 2 * BASE_PACKET_SIZE


def test_growth_is_slow_around_the_old_maximum_and_then_fast():
    window = new_window(1000)
    window.on_lost(sent_at=1.0, now=1.0)
    # K = cbrt(W_max * 0.3 / C) = 9.09 s (RFC 9438 §4.2).
    grow(window, start_s=1.0, duration_s=9.0)
    assert window.window == pytest.approx(1000 * BASE_PACKET_SIZE, rel=0.02)
    at_plateau = window.window
    grow(window, start_s=10.0, duration_s=2.0)
    slow = window.window - at_plateau
    grow(window, start_s=12.0, duration_s=2.0)
    assert window.window - at_plateau - slow > 3 * slow


def test_a_small_window_grows_at_least_as_fast_as_reno():
    window = new_window(20)
    window.on_lost(sent_at=1.0, now=1.0)
    grow(window, start_s=1.0, duration_s=2.0)
    # alpha = 0.53 segments a round trip up to the old window (RFC 9438 §4.3).
    assert window.window >= (14 + 0.5 * 18) * BASE_PACKET_SIZE * 0.95


def test_a_second_loss_below_the_old_maximum_leaves_room_to_others():
    window = new_window(100)
    window.on_lost(sent_at=1.0, now=1.0)
    window.on_lost(sent_at=2.0, now=2.0)
    assert window._w_max == pytest.approx(70 * BASE_PACKET_SIZE * 0.85)


def test_time_without_data_does_not_count_as_growth():
    window = new_window(1000)
    window.on_lost(sent_at=1.0, now=1.0)
    grow(window, start_s=1.0, duration_s=1.0)
    before = window.window
    window.on_idle()
    window.on_acked(BASE_PACKET_SIZE, sent_at=99.9, now=100.0, rtt_s=RTT_S)
    assert window.window - before < 3 * BASE_PACKET_SIZE


def test_persistent_congestion_starts_over():
    window = new_window(100)
    window.on_lost(sent_at=1.0, now=1.1)
    window.on_persistent_congestion()
    assert window.window == 2 * BASE_PACKET_SIZE
    assert window.in_slow_start
    window.on_acked(BASE_PACKET_SIZE, sent_at=1.05, now=1.2, rtt_s=RTT_S)
    assert window.window == 3 * BASE_PACKET_SIZE
