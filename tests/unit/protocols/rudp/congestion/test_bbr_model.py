"""Filters and bounds of BBR."""

import pytest

from opnode.protocols.rudp.congestion.bbr_model import (
    BandwidthFilter,
    PathModel,
    RoundCounter,
)
from opnode.protocols.rudp.congestion.controller import AckSample, RateSample

SIZE = 1200


def rate(
    *, per_s: float = 1e6, total: int = 0, prior: int = 0, is_app_limited: bool = False
) -> RateSample:
    return RateSample(int(per_s * 0.1), 0.1, total, prior, 0, 0, is_app_limited)


def test_a_round_ends_when_something_sent_after_its_start_is_acknowledged():
    rounds = RoundCounter()
    rounds.update(rate(total=1000, prior=0))
    assert rounds.is_start
    rounds.update(rate(total=2000, prior=500))
    assert not rounds.is_start
    rounds.update(rate(total=3000, prior=1000))
    assert (rounds.is_start, rounds.count) == (True, 2)


def test_the_bandwidth_of_the_cycle_before_the_last_is_forgotten():
    bandwidth = BandwidthFilter()
    bandwidth.add(100.0)
    bandwidth.advance()
    bandwidth.add(50.0)
    assert bandwidth.most == 100.0
    bandwidth.advance()
    assert bandwidth.most == 50.0
    bandwidth.advance()
    assert bandwidth.most == 50.0


def test_an_application_that_was_slow_can_only_raise_the_bandwidth():
    model = PathModel(packet_size=SIZE)
    model.update_latest(rate(per_s=1e6))
    model.filter.advance()
    model.update_latest(rate(per_s=5e5, is_app_limited=True))
    model.filter.advance()
    assert model.bandwidth == 1e6
    model.update_latest(rate(per_s=2e6, is_app_limited=True))
    assert model.bandwidth == 2e6


def test_the_shortest_round_trip_of_ten_seconds_counts():
    model = PathModel(packet_size=SIZE)
    model.update_min_rtt(0.05, 1.0)
    model.update_min_rtt(0.08, 2.0)
    assert model.min_rtt_s == 0.05
    model.update_min_rtt(0.08, 6.5)
    assert model.probe_rtt_expired
    assert model.min_rtt_s == 0.05
    model.update_min_rtt(0.08, 11.5)
    assert model.min_rtt_s == 0.08


def test_losses_lower_the_bounds_to_what_was_delivered_or_seven_tenths():
    model = PathModel(packet_size=SIZE)
    model.update_latest(rate(per_s=1e6))
    model.reset_congestion()
    model.update_latest(rate(per_s=1e5))
    model.lower_bounds(200_000)
    assert model.bandwidth == pytest.approx(7e5)
    assert model.inflight_low == pytest.approx(140_000)
    model.reset_lower_bounds()
    assert model.bandwidth == 1e6


def test_the_product_of_a_tiny_round_trip_is_that_of_two_milliseconds():
    model = PathModel(packet_size=SIZE)
    assert model.product(1.0) == float("inf")
    model.update_latest(rate(per_s=1e6))
    model.update_min_rtt(0.0001, 1.0)
    assert model.product(1.0) == pytest.approx(2000)


def test_headroom_is_left_below_a_known_bound_only():
    model = PathModel(packet_size=SIZE)
    assert model.inflight_with_headroom == float("inf")
    model.inflight_high = 100_000
    assert model.inflight_with_headroom == pytest.approx(85_000)
    model.inflight_high = 0
    assert model.inflight_with_headroom == 4 * SIZE


def acked(size: int, *, now: float) -> AckSample:
    return AckSample(now, size, 0, 0.0, 0, 1, None, 0.1, 0.1, 0, True, rate())


def test_clumps_of_acknowledgements_are_remembered_for_ten_rounds():
    model = PathModel(packet_size=SIZE)
    model.update_latest(rate(per_s=1e5))
    for step in range(1, 6):
        model.update_aggregation(acked(10_000, now=step * 0.1), rounds=0, window=10**6)
    assert model.aggregation <= 10_000
    model.update_aggregation(acked(50_000, now=0.501), rounds=0, window=10**6)
    assert model.aggregation >= 45_000
    for rounds in (5, 10):
        model.update_aggregation(acked(100, now=rounds * 1.0), rounds=rounds, window=1)
    assert model.aggregation < 1000
