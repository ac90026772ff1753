"""The nearest nodes of one key, and of many."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simulations.model.ids import draw_ids, nearest_places, nearest_to


@given(st.integers(1, 60), st.integers(1, 8), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_places_are_those_of_the_nearest_in_order(servers, count, seed):
    generator = np.random.default_rng(seed)
    ids = np.sort(draw_ids(generator, servers))
    keys = draw_ids(generator, 20)
    count = min(count, servers)
    for key, row in zip(keys, nearest_places(ids, keys, count), strict=True):
        ranked = sorted(range(servers), key=lambda place: int(ids[place]) ^ int(key))
        assert row.tolist() == ranked[:count]


@given(st.integers(1, 60), st.integers(1, 80), st.integers(0, 10**6))
def test_the_nearest_to_one_key_are_those_of_many(servers, count, seed):
    generator = np.random.default_rng(seed)
    ids = np.sort(draw_ids(generator, servers))
    keys = draw_ids(generator, 1)
    many = nearest_places(ids, keys, min(count, servers))
    assert nearest_to(ids.tolist(), int(keys[0]), count) == many[0].tolist()
