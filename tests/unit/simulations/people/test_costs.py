"""Costs measured on the shipped code."""

import pytest

from simulations.people.costs import Cost, measure_costs


def test_headers_are_on_the_wire():
    assert Cost(100.0, 2.0).wire() == 156.0


@pytest.mark.slow
def test_an_introduction_costs_its_introducer_less_than_4_kb():
    costs = measure_costs(1)
    assert 1000 < costs.introduction_bytes < 4000
    assert costs.register.size_bytes > costs.ping.size_bytes > 50
    assert 1.5 <= costs.introductions_per_call <= 3.5
