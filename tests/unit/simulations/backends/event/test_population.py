"""Nodes are there from their start to their end, and nobody else is."""

import numpy as np
import pytest

from simulations.backends.event.population import Population, distinct_ids
from simulations.model.durations import HOUR_S
from simulations.model.sessions import Sessions


def _generator() -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(4))


def test_a_newcomer_comes_at_the_moment_that_another_leaves() -> None:
    people = Population.renewing(300, 6 * HOUR_S, Sessions(), _generator())
    for now in (0.0, 1234.5, 3 * HOUR_S, 6 * HOUR_S - 1):
        assert len(people.alive(now)) == 300
    assert len(people) > 400
    assert (np.diff(people.starts) >= 0).all()


def test_nodes_are_there_from_their_start_until_before_their_end() -> None:
    people = Population.traced([(5.0, 9.0), (0.0, 6.0)], _generator())
    assert people.starts.tolist() == [0.0, 5.0]
    assert [people.is_alive(0, now) for now in (0.0, 5.9, 6.0)] == [True, True, False]
    assert [people.alive(now).tolist() for now in (4.9, 5.0, 6.0)] == [[0], [0, 1], [1]]


def test_who_is_added_or_ended_early_counts_like_all_others() -> None:
    people = Population.steady(3, _generator())
    people.end(1, 2.0)
    node = people.add(77, starts=1.0, ends=4.0)
    assert people.id_of[node] == 77 == int(people.ids[node])
    assert people.alive(3.0).tolist() == [0, 2, node]
    assert not people.is_alive(1, 2.0)


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_ids_differ(count: int) -> None:
    assert len(set(distinct_ids(_generator(), count).tolist())) == count
