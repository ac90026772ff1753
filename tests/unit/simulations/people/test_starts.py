"""What a start costs, measured on the shipped code."""

import pytest

from simulations.people.starts import StartCosts, measure_starts

START = StartCosts(
    requests=250.0,
    stores=28.0,
    units=1.7,
    bytes_each=600.0,
    published_s=2.0,
    registers=3.3,
    register_bytes=290.0,
)


def test_a_scaled_start_has_fewer_requests_of_the_same_kind():
    half = START.scaled(0.5)
    assert (half.requests, half.stores) == (125.0, 14.0)
    assert half.bytes_each == START.bytes_each


@pytest.mark.slow
def test_a_start_registers_with_three_and_is_found_within_seconds():
    costs = measure_starts(1)
    assert 3 <= costs.registers < 5
    assert 50 < costs.requests < 1000
    assert costs.published_s < 5
