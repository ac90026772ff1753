"""What is asked of the peer, and when."""

import pytest

from opnode.protocols.rudp.ack_frequency import AckFrequency

SIZE = 1200


def asked(frequency: AckFrequency, packets: int, *, now: float, rtt_s: float = 0.05):
    return frequency.update(
        in_flight=packets * SIZE, packet_size=SIZE, rtt_s=rtt_s, now=now
    )


def test_a_small_window_asks_for_nothing():
    frequency = AckFrequency()
    assert not asked(frequency, 32, now=1.0)
    assert frequency.request is None


def test_a_large_window_asks_for_32_acknowledgements_of_it():
    frequency = AckFrequency()
    assert asked(frequency, 320, now=1.0)
    assert frequency.request is not None
    assert frequency.request.packets == 10
    assert frequency.request.max_delay_s == pytest.approx(0.05 / 8)


def test_however_large_the_window_an_acknowledgement_comes_after_256_packets():
    frequency = AckFrequency()
    asked(frequency, 100_000, now=1.0)
    assert frequency.request is not None
    assert frequency.request.packets == 256


@pytest.mark.parametrize(("rtt_s", "delay_s"), [(0.0001, 0.001), (3.0, 0.025)])
def test_the_delay_is_a_timer_at_least_and_25_ms_at_most(rtt_s, delay_s):
    frequency = AckFrequency()
    asked(frequency, 320, now=1.0, rtt_s=rtt_s)
    assert frequency.request is not None
    assert frequency.request.max_delay_s == delay_s


def test_small_changes_are_not_asked_for_and_large_ones_once_a_round_trip():
    frequency = AckFrequency()
    assert asked(frequency, 320, now=1.0)
    assert not asked(frequency, 800, now=1.01)
    assert not asked(frequency, 400, now=1.1)
    assert asked(frequency, 800, now=1.2)
    assert frequency.request is not None
    assert frequency.request.sequence == 1
    assert asked(frequency, 32, now=1.3)
    assert frequency.request.packets == 2


def test_on_a_short_path_8_acknowledgements_of_a_window_are_enough():
    frequency = AckFrequency()
    assert frequency.update(
        in_flight=800 * 1200, packet_size=1200, rtt_s=0.004, now=1.0
    )
    assert frequency.request is not None
    assert frequency.request.packets == 100
