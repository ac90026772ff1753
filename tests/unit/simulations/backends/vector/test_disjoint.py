"""Disjoint paths share no node, get nearer with each step, and end with a holder."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulations.backends.vector.disjoint import (
    DisjointLookups,
    Gang,
    Lie,
    Paths,
)
from simulations.backends.vector.population import Population
from simulations.backends.vector.tables import NOBODY, Draw, Tables


def world(count=2000, k=16, seed=1, lookups=200):
    generator = np.random.default_rng(seed)
    drawn = Tables(Population.drawn(generator, count), k, seed, Draw.DISTINCT)
    askers = generator.integers(0, count, lookups)
    keys = generator.integers(0, 2**64, lookups, dtype=np.uint64)
    return drawn, askers, keys, generator


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(20, 500),
    paths=st.integers(1, 8),
    lie=st.sampled_from([None, *Lie]),
)
@settings(max_examples=50)
def test_no_node_is_asked_twice_and_the_asker_never(seed, count, paths, lie):
    drawn, askers, keys, generator = world(count, 8, seed, lookups=20)
    liars = generator.permutation(count)[: count // 3]
    gang = Gang(drawn.population, liars, lie) if lie else None
    found = DisjointLookups(drawn, paths, gang).run(askers, keys, generator)
    assert found.are_disjoint()
    assert not (found.asked == askers).any()


def test_two_paths_with_one_node_are_not_disjoint():
    asked = np.array([[[1], [2]], [[NOBODY], [1]]])
    assert not Paths(asked, np.ones((2, 1), bool)).are_disjoint()


def test_every_step_is_nearer_to_the_key():
    drawn, askers, keys, generator = world()
    found = DisjointLookups(drawn, 4).run(askers, keys, generator)
    away = drawn.distances(found.asked, keys)
    went_on = found.asked[1:] != NOBODY
    assert (away[1:][went_on] < away[:-1][went_on]).all()


def test_paths_end_with_holders_of_their_own():
    drawn, askers, keys, generator = world()
    found = DisjointLookups(drawn, 4).run(askers, keys, generator)
    assert found.arrived.mean() > 0.99
    last = np.where(found.asked == NOBODY, NOBODY, 1).sum(axis=0)
    assert (found.lengths() > 0).all()
    assert last.shape == (4, 200)
    holders = drawn.population.nearest(keys, 5)
    for path in range(4):
        steps = found.lengths()[path]
        ends = found.asked[steps - 1, path, np.arange(200)]
        assert (holders == ends).any(axis=0)[found.arrived[path]].all()


def test_a_single_path_ends_with_the_nearest_node():
    drawn, askers, keys, generator = world()
    found = DisjointLookups(drawn, 1).run(askers, keys, generator)
    nearest = drawn.population.nearest(keys, 1)[0]
    ends = found.asked[found.lengths()[0] - 1, 0, np.arange(200)]
    assert (ends == nearest)[askers != nearest].all()
    assert found.arrived.all()


@pytest.mark.parametrize("lie", Lie)
def test_liars_name_nobody_but_liars(lie):
    drawn, _, keys, generator = world()
    liars = generator.permutation(2000)[:300]
    told = Gang(drawn.population, liars, lie).answers(keys, 16, generator)
    assert set(told.ravel()) <= set(liars)


def test_a_gang_smaller_than_an_answer_names_all_it_has():
    drawn, _, keys, generator = world()
    told = Gang(drawn.population, np.array([7, 3]), Lie.NEAREST).answers(
        keys, 16, generator
    )
    assert set(told[:2].ravel()) == {3, 7}
    assert (told[2:] == NOBODY).all()


@pytest.mark.parametrize("lie", Lie)
def test_a_path_that_met_a_liar_meets_nobody_honest_afterwards(lie):
    drawn, askers, keys, generator = world()
    gang = Gang(drawn.population, generator.permutation(2000)[:600], lie)
    found = DisjointLookups(drawn, 4, gang).run(askers, keys, generator)
    lying = gang.is_liar[found.asked]
    asked = found.asked != NOBODY
    lost = np.logical_or.accumulate(lying & asked, axis=0)
    assert lying[asked & lost].all()
    assert lost.any()
    assert not found.clean(gang.is_liar)[lost[-1]].any()
