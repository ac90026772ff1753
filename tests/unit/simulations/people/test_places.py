"""Who introduces whom."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simulations.model.ids import draw_ids, nearest_places
from simulations.people.places import NOBODY, assign


def _town(servers, users, seed):
    generator = np.random.default_rng(seed)
    return np.sort(draw_ids(generator, servers)), draw_ids(generator, users), generator


def test_with_room_everybody_holds_the_nearest_three():
    servers, users, generator = _town(50, 200, 1)
    found = assign(servers, users, np.full(50, 10_000), generator)
    nearest = nearest_places(servers, users, 3)
    assert (np.sort(found.held, axis=1) == np.sort(nearest, axis=1)).all()
    assert found.refused == 0


@given(st.integers(1, 40), st.integers(1, 300), st.integers(1, 40), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_no_server_is_above_its_cap_and_nobody_holds_one_twice(
    servers, users, cap, seed
):
    ids, keys, generator = _town(servers, users, seed)
    found = assign(ids, keys, np.full(servers, cap), generator)
    assert found.registrations.max() <= cap
    for row in found.held.tolist():
        held = [one for one in row if one != NOBODY]
        assert len(set(held)) == len(held)
    assert found.registrations.sum() == (found.held != NOBODY).sum()


def test_who_finds_the_nearest_full_holds_others():
    servers, users, generator = _town(40, 400, 2)
    found = assign(servers, users, np.full(40, 33), generator)
    assert found.refused > 0
    assert (found.held != NOBODY).all(axis=1).mean() > 0.95
