"""Round trips as RFC 6298 and RFC 9002 §5 want them."""

import pytest

from opnode.protocols.rudp.rtt import RttEstimator


def test_the_first_round_trip_replaces_the_assumption():
    rtt = RttEstimator(0.1)
    assert rtt.probe_timeout_s == pytest.approx(0.1 + 0.2 + 0.005)
    rtt.suggest(0.02)
    assert rtt.probe_timeout_s == pytest.approx(0.02 + 0.04 + 0.005)
    rtt.add(0.04, 0.0)
    assert (rtt.smoothed, rtt.variation, rtt.minimum) == (0.04, 0.02, 0.04)
    rtt.suggest(5.0)
    assert rtt.smoothed == 0.04


def test_later_round_trips_are_smoothed_as_rfc_6298_says():
    rtt = RttEstimator(0.1)
    rtt.add(0.08, 0.0)
    rtt.add(0.16, 0.0)
    assert rtt.variation == pytest.approx(0.04 * 3 / 4 + 0.08 / 4)
    assert rtt.smoothed == pytest.approx(0.08 * 7 / 8 + 0.16 / 8)


def test_the_delay_of_the_peer_is_taken_off_but_never_more_than_5_ms():
    rtt = RttEstimator(0.1)
    rtt.add(0.08, 0.0)
    rtt.add(0.16, 9.0)
    assert rtt.smoothed == pytest.approx(0.08 * 7 / 8 + 0.155 / 8)
    rtt.add(0.081, 0.005)
    assert rtt.minimum == 0.08


def test_the_delay_that_was_asked_for_counts_for_the_probe_timeout():
    rtt = RttEstimator(0.1)
    rtt.max_ack_delay_s = 0.025
    assert rtt.probe_timeout_s == pytest.approx(0.1 + 0.2 + 0.025)
    rtt.add(0.08, 0.0)
    rtt.add(0.16, 0.02)
    assert rtt.smoothed == pytest.approx(0.08 * 7 / 8 + 0.14 / 8)


def test_the_shortest_round_trip_is_the_assumed_one_before_a_measurement():
    rtt = RttEstimator(0.1)
    assert rtt.shortest_s == 0.1
    rtt.add(0.08, 0.0)
    assert rtt.shortest_s == 0.08
