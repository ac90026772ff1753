"""The order of ids tells who shares a prefix and who is nearest."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.backends.vector.population import (
    Population,
    common_bits,
    leading_zeros,
)

WORDS = st.integers(0, 2**64 - 1)
IDS = st.lists(WORDS, min_size=1, max_size=40, unique=True)


def population(ids):
    return Population(np.array(sorted(ids), dtype=np.uint64))


def test_leading_zeros_are_exact_on_both_sides_of_every_power_of_two():
    powers = [2**bit for bit in range(64)]
    words = np.array([*powers, *(one - 1 for one in powers), 2**64 - 1], np.uint64)
    expected = [64 - int(one).bit_length() for one in words]
    assert leading_zeros(words).tolist() == expected


@given(ids=IDS, key=WORDS, bits=st.integers(0, 64))
def test_those_who_share_bits_with_a_key_are_one_range(ids, key, bits):
    people = population(ids)
    first, last = people.sharing(np.array([key], np.uint64), np.array([bits]))
    share = common_bits(people.ids, np.array([key], np.uint64)) >= bits
    assert np.flatnonzero(share).tolist() == list(range(first[0], last[0]))


@given(ids=IDS, keys=st.lists(WORDS, min_size=1, max_size=4), count=st.integers(1, 40))
def test_the_nearest_are_those_with_the_least_distance(ids, keys, count):
    people = population(ids)
    count = min(count, len(people))
    found = people.nearest(np.array(keys, np.uint64), count)
    for column, key in enumerate(keys):
        nearest = sorted(sorted(ids), key=lambda one: one ^ key)[:count]
        assert people.ids[found[:, column]].tolist() == nearest


@given(ids=IDS)
def test_the_depth_of_a_node_is_what_it_shares_with_its_closest(ids):
    people = population(ids)
    expected = [
        max(
            (64 - (one ^ other).bit_length() for other in ids if other != one),
            default=0,
        )
        for one in sorted(ids)
    ]
    assert people.depths(np.arange(len(ids))).tolist() == expected


def test_drawn_ids_are_ascending_and_all_different():
    people = Population.drawn(np.random.default_rng(1), 50_000)
    assert len(people) == 50_000
    assert (people.ids[1:] > people.ids[:-1]).all()


class Repeating(np.random.Generator):
    """Gives the same ids again and again at first."""

    asked = 0

    def integers(self, *given, **named):
        self.asked += 1
        drawn = super().integers(*given, **named)
        return drawn % np.uint64(3) if self.asked < 4 else drawn


def test_ids_that_were_drawn_twice_are_drawn_again():
    people = Population.drawn(Repeating(np.random.PCG64(1)), 10)
    assert len(set(people.ids.tolist())) == 10


@pytest.mark.parametrize("ids", [[], [2, 1], [1, 1]])
def test_ids_that_are_not_ascending_and_different_are_refused(ids):
    with pytest.raises(ValueError, match="ascending and different"):
        Population(np.array(ids, np.uint64))
