"""The rate of acknowledged bytes."""

import pytest

from opnode.protocols.rudp.delivery_rate import DeliveryRate


def test_a_steady_flow_shows_its_rate():
    rate = DeliveryRate()
    assert rate.bytes_per_s == 0.0
    for step in range(1000):
        rate.add(1000, now=step * 0.001, interval_s=0.05)
    assert rate.bytes_per_s == pytest.approx(1_000_000, rel=0.03)


def test_a_change_shows_within_a_few_intervals():
    rate = DeliveryRate()
    now = 0.0
    for size in (1000, 100):
        for _ in range(1000):
            now += 0.001
            rate.add(size, now=now, interval_s=0.05)
    assert rate.bytes_per_s == pytest.approx(100_000, rel=0.1)


def test_a_round_trip_shorter_than_20_ms_does_not_make_noise():
    rate = DeliveryRate()
    rate.add(1000, now=0.0, interval_s=0.0001)
    rate.add(1000, now=0.0002, interval_s=0.0001)
    assert rate.bytes_per_s == 0.0
