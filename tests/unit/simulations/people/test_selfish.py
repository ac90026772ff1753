"""Volunteers who leave when they serve too much."""

import random

import numpy as np
import pytest

from simulations.people.demand import demand, sample_lookups
from simulations.people.selfish import Limits, Village, Volunteers
from tests.unit.simulations.people.sample_costs import COSTS

_VILLAGE = Village(
    users=2000,
    volunteers=20,
    seeds=3,
    accepts_median=8000.0,
    leaves=0.5,
    returns=0.01,
    calls_per_s=1 / 3600,
    step_h=6.0,
)


def _steps(limits, count=40, **village):
    costs = demand(COSTS, sample_lookups(23, random.Random(1)))
    generator = np.random.default_rng(1)
    volunteers = Volunteers(_VILLAGE._replace(**village), costs, limits, generator)
    return [volunteers.step() for _ in range(count)]


def test_all_stay_who_accept_what_comes():
    steps = _steps(Limits.NONE, accepts_median=1e9)
    assert {one.stay for one in steps} == {1.0}
    assert {one.success for one in steps} == {1.0}


def test_without_limits_those_that_leave_load_the_others():
    steps = _steps(Limits.NONE)
    assert steps[-1].stay < 0.3
    assert steps[-1].seed_bytes_per_s_max > 3 * steps[0].seed_bytes_per_s_max


def test_a_limit_on_everything_keeps_all():
    steps = _steps(Limits.TOTAL)
    assert {one.stay for one in steps} == {1.0}
    assert min(one.success for one in steps) > 0.99


@pytest.mark.parametrize("limits", list(Limits))
def test_shares_are_shares(limits):
    for step in _steps(limits, count=10):
        assert 0 <= step.stay <= 1
        assert 0 <= step.over <= 1
        assert 0 <= step.success <= 1
