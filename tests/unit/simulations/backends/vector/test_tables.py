"""Tables that nobody stores are tables nevertheless."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.backends.vector.population import Population, common_bits
from simulations.backends.vector.tables import NOBODY, Draw, Tables


def tables(count=300, k=5, seed=1, draw=Draw.DISTINCT):
    people = Population.drawn(np.random.default_rng(seed), count)
    return Tables(people, k, key=seed, draw=draw)


def contacts(given_tables, place):
    """All that one node knows."""
    rows = np.full(64, place)
    members = given_tables.bucket(rows, np.arange(64)).ravel()
    return members[members != NOBODY]


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(2, 200),
    k=st.integers(1, 30),
    data=st.data(),
)
def test_a_bucket_holds_k_different_members_of_its_range_or_all(seed, count, k, data):
    drawn = tables(count, k, seed)
    place = data.draw(st.integers(0, count - 1))
    bucket = data.draw(st.integers(0, 12))
    members = drawn.bucket(np.array([place]), np.array([bucket]))[:, 0]
    ids = drawn.population.ids
    fitting = np.flatnonzero(common_bits(ids, ids[[place]]) == bucket)
    found = members[members != NOBODY]
    assert len(found) == min(k, len(fitting))
    assert len(set(found)) == len(found)
    assert set(found) <= set(fitting)


@pytest.mark.parametrize("draw", Draw)
def test_a_bucket_is_the_same_whenever_and_with_whomever_it_is_asked_for(draw):
    drawn = tables(draw=draw)
    places = np.arange(300)
    buckets = places % 6
    together = drawn.bucket(places, buckets)
    for place in (0, 17, 299):
        alone = drawn.bucket(places[[place]], buckets[[place]])
        assert (together[:, place] == alone[:, 0]).all()


def test_another_key_draws_other_tables():
    people = Population.drawn(np.random.default_rng(1), 300)
    nodes, first = np.arange(300), np.zeros(300, np.int64)
    one, other = (Tables(people, 5, key).bucket(nodes, first) for key in (1, 2))
    assert (one != other).any()


def test_independent_draws_repeat_members_and_distinct_ones_never():
    nodes, first = np.arange(300), np.zeros(300, np.int64)
    members = tables(k=20, draw=Draw.INDEPENDENT).bucket(nodes, first)
    assert min(len(set(column)) for column in members.T) < 20


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(2, 120),
    k=st.integers(1, 25),
    key=st.integers(0, 2**64 - 1),
    data=st.data(),
)
def test_a_node_answers_with_those_that_it_knows_nearest(seed, count, k, key, data):
    drawn = tables(count, k, seed)
    place = data.draw(st.integers(0, count - 1))
    told = drawn.answers(np.array([place]), np.array([key], np.uint64))[:, 0]
    ids = drawn.population.ids
    known = sorted(contacts(drawn, place), key=lambda one: int(ids[one]) ^ key)
    assert sorted(told[told != NOBODY]) == sorted(known[:k])


def test_buckets_hold_those_of_their_range_that_were_heard_of():
    people = Population.drawn(np.random.default_rng(4), 2000)
    half = Tables(people, 20, 4, heard=0.5)
    whole = Tables(people, 20, 4)
    nodes = np.arange(2000)
    for bucket in (5, 6, 8):
        rows = np.full(2000, bucket)
        some, everybody = half.bucket(nodes, rows), whole.bucket(nodes, rows)
        ids = people.ids
        fits = common_bits(ids[some], ids) == bucket
        assert fits[some != NOBODY].all()
        assert all(
            len(set(column[column != NOBODY])) == (column != NOBODY).sum()
            for column in some.T
        )
        # Nobody stands above a member.
        assert ((some[1:] == NOBODY) | (some[:-1] != NOBODY)).all()
        assert (some == half.bucket(nodes, rows)).all()
        room_left = (everybody == NOBODY).any(axis=0)
        known = (some[:, room_left] != NOBODY).sum()
        there = (everybody[:, room_left] != NOBODY).sum()
        assert known / there == pytest.approx(0.5, abs=0.03)


def test_answers_to_many_are_those_to_each_alone():
    drawn = tables()
    keys = np.random.default_rng(3).integers(0, 2**64, 300, dtype=np.uint64)
    together = drawn.answers(np.arange(300), keys)
    for place in (0, 150, 299):
        alone = drawn.answers(np.array([place]), keys[[place]])
        assert sorted(together[:, place]) == sorted(alone[:, 0])


def test_the_contact_toward_a_key_is_the_nearest_of_the_bucket_there():
    drawn = tables()
    ids = drawn.population.ids
    keys = ids[::-1].copy()
    towards = drawn.toward(np.arange(300), keys)
    for place in (0, 10, 290):
        if ids[place] == keys[place]:
            continue
        known = contacts(drawn, place)
        assert towards[place] == min(known, key=lambda one: ids[one] ^ keys[place])
