"""The rate that a sample stands for."""

from opnode.protocols.rudp.congestion.controller import RateSample


def test_a_rate_is_bytes_by_time():
    assert RateSample(1000, 0.5, 0, 0, 0, 0, False).bytes_per_s == 2000


def test_a_sample_without_an_interval_has_no_rate():
    assert RateSample(1000, 0.0, 0, 0, 0, 0, False).bytes_per_s == 0
