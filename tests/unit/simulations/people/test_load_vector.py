"""The load by arrays."""

import random

import numpy as np
import pytest

from simulations.model.ids import draw_ids
from simulations.people.demand import demand, sample_lookups
from simulations.people.load_vector import Town, load
from tests.unit.simulations.people.sample_costs import COSTS


def _load(calls_per_s):
    generator = np.random.default_rng(1)
    town = Town(np.sort(draw_ids(generator, 30)), draw_ids(generator, 600))
    costs = demand(COSTS, sample_lookups(30, random.Random(1)))
    return costs, load(town, costs, calls_per_s, 10_000, 600.0, generator)


def test_what_idle_users_spend_arrives_at_servers():
    costs, seen = _load(0.0)
    expected = 600 * (costs.idle_user + costs.delegated) + 30 * 2 * costs.upkeep
    assert seen.server_bytes_per_s.sum() == pytest.approx(expected)
    assert seen.introductions == 0


def test_calls_are_paid_for():
    costs, seen = _load(0.01)
    assert seen.user_bytes_per_s == pytest.approx(costs.idle_user + 0.01 * costs.call)
    assert seen.introductions == pytest.approx(600 * 600 * 0.01 * 1.96, rel=0.1)
