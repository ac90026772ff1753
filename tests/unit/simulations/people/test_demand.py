"""What one user, one call and one server's upkeep cost."""

import random

import pytest

from simulations.people.demand import demand, sample_lookups
from tests.unit.simulations.people.sample_costs import COSTS


def test_a_lookup_among_few_asks_them_all():
    assert sample_lookups(12, random.Random(1)).queries == 12


def test_a_call_is_its_lookup_and_two_introductions():
    found = demand(COSTS, sample_lookups(24, random.Random(1)))
    lookup = 20 * (1900 + 56)
    introductions = 1.96 * (1100 + 2.1 * 28 + 1600 + 56)
    assert found.call == pytest.approx(lookup + introductions)


def test_the_strictest_nats_cost_the_most():
    lookups = sample_lookups(24, random.Random(1))
    strict, lax = (demand(COSTS, lookups, (timer,)) for timer in (30.0, 180.0))
    assert strict.idle_user > 1.5 * lax.idle_user
