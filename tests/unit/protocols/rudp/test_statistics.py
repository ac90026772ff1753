"""The figures say what happened."""

import pytest

from opnode.testing.pair import LinkConfig, Pair


def test_figures_of_both_ends_fit_each_other():
    pair = Pair(link=LinkConfig(latency_s=0.02))
    channel = pair.a.connection.open_channel(pair.now)
    pair.a.connection.send(channel, bytes(200_000), pair.now)
    pair.run_for(2.0)
    a, b = pair.a.connection.statistics(), pair.b.connection.statistics()
    assert a.packets_sent == b.packets_received
    assert a.bytes_sent == b.bytes_received > 200_000
    assert b.bytes_sent == a.bytes_received
    assert a.smoothed_rtt_s == pytest.approx(0.04, abs=0.006)
    assert a.min_rtt_s == pytest.approx(0.04)
    assert a.bytes_in_flight == a.packets_lost == b.duplicates == b.forged == 0
    assert a.acked_rate_Bps > 100_000
    assert a.path == pair.b.endpoint
    assert a.channels_open == 1


def test_before_the_first_round_trip_there_is_none():
    figures = Pair(connect=False).a.connection.statistics()
    assert figures.path is None
    assert figures.smoothed_rtt_s is None
    assert figures.rtt_variation_s is None
    assert figures.acked_rate_Bps == 0


def test_losses_and_duplicates_are_counted():
    pair = Pair(link=LinkConfig(loss=0.2, duplication=0.2))
    channel = pair.a.connection.open_channel(pair.now)
    pair.a.connection.send(channel, bytes(200_000), pair.now)
    pair.run_for(20.0)
    a, b = pair.a.connection.statistics(), pair.b.connection.statistics()
    assert a.packets_lost > 10
    assert b.duplicates > 10
    assert b.packets_received + a.packets_lost >= a.packets_sent - 3
