"""What is drawn is a function of its key, different places, and every one as likely."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.backends.vector.keyed import distinct, independent, streams, uniform


@given(
    key=st.integers(0, 2**64 - 1),
    size=st.integers(1, 2**40),
    wanted=st.integers(1, 40),
    ids=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8),
)
def test_drawn_places_are_different_and_within_the_set(key, size, wanted, ids):
    count = min(size, wanted)
    nodes = np.array(ids, dtype=np.uint64)
    begins = streams(key, nodes, np.zeros(len(ids), dtype=np.int64))
    drawn = distinct(begins, np.full(len(ids), size), count)
    assert drawn.shape == (count, len(ids))
    assert drawn.min() >= 0
    assert drawn.max() < size
    assert all(len(set(column)) == count for column in drawn.T)


def test_a_stream_does_not_depend_on_who_else_is_asked():
    nodes = np.arange(100, dtype=np.uint64)
    buckets = np.arange(100) % 7
    many = uniform(streams(5, nodes, buckets), 9)
    for at in (0, 42, 99):
        alone = uniform(streams(5, nodes[[at]], buckets[[at]]), 9)
        assert (many[:, at] == alone[:, 0]).all()


def test_another_key_node_or_bucket_is_another_stream():
    nodes = np.repeat(np.arange(50, dtype=np.uint64), 50)
    buckets = np.tile(np.arange(50), 50)
    begins = np.concatenate([streams(key, nodes, buckets) for key in (1, 2)])
    assert len(np.unique(begins)) == 5000


@pytest.mark.parametrize("draw", [distinct, independent])
def test_every_place_is_drawn_as_often_as_any_other(draw):
    begins = streams(3, np.arange(20_000, dtype=np.uint64), np.zeros(20_000, np.int64))
    drawn = draw(begins, np.full(20_000, 10), 4)
    times = np.bincount(drawn.ravel(), minlength=10)
    # Four deviations of a binomial with 80 000 draws.
    assert abs(times - 8000).max() < 4 * np.sqrt(80_000 * 0.1 * 0.9)


def test_every_pair_is_drawn_as_often_as_any_other():
    begins = streams(4, np.arange(20_000, dtype=np.uint64), np.zeros(20_000, np.int64))
    drawn = np.sort(distinct(begins, np.full(20_000, 5), 2), axis=0)
    _, times = np.unique(drawn[0] * 5 + drawn[1], return_counts=True)
    assert len(times) == 10
    assert abs(times - 2000).max() < 4 * np.sqrt(20_000 * 0.1 * 0.9)
