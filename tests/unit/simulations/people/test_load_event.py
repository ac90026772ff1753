"""The load message by message, beside the one by arrays."""

import random

import numpy as np
import pytest

from simulations.model.ids import draw_ids
from simulations.people.demand import demand, sample_lookups
from simulations.people.load_event import LoadEvents
from simulations.people.load_vector import Town, load
from simulations.run_context import Run
from tests.unit.simulations.people.sample_costs import COSTS

_CALLS_PER_S = 1 / 600


def _events(servers, users):
    generator = np.random.default_rng(1)
    town = Town(np.sort(draw_ids(generator, servers)), draw_ids(generator, users))
    return town, LoadEvents(town, COSTS, _CALLS_PER_S, 10_000, Run(1))


def test_events_and_arrays_agree_at_1000_users():
    town, life = _events(100, 1000)
    seen = life.run(300.0)
    costs = demand(COSTS, sample_lookups(100, random.Random(1)))
    generator = np.random.default_rng(2)
    expected = load(town, costs, _CALLS_PER_S, 10_000, 300.0, generator)
    assert (seen.registrations == expected.registrations).all()
    for what in (np.mean, lambda rates: np.quantile(rates, 0.99)):
        found = what(seen.server_bytes_per_s)
        assert found == pytest.approx(what(expected.server_bytes_per_s), rel=0.1)
    assert seen.user_bytes_per_s == pytest.approx(expected.user_bytes_per_s, rel=0.1)


def test_the_same_seed_gives_the_same_events():
    digests = set()
    for _ in range(2):
        _, life = _events(10, 50)
        life.run(120.0)
        digests.add(life.loop.digest())
    assert len(digests) == 1
