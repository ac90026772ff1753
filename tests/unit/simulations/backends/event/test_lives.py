"""`lives`: who is there, and whom the others take to be there."""

import numpy as np
import pytest

from simulations.backends.event.checks import CheckLaw
from simulations.backends.event.lives import JOIN_S, Lives
from simulations.model.durations import HOUR_S
from simulations.model.sessions import Sessions


def generator(seed=1):
    return np.random.Generator(np.random.PCG64(seed))


def lives_of(*sessions):
    """A node for each number, in these sessions: (node, start, end)."""
    nodes, starts, ends = (np.array(column) for column in zip(*sessions, strict=True))
    count = int(nodes.max()) + 1
    ids = np.arange(count, dtype=np.uint64)
    columns = nodes, starts.astype(np.float64), ends.astype(np.float64)
    return Lives(ids, columns, CheckLaw(horizon_s=100_000.0))


def test_a_node_is_seen_a_little_after_it_came_and_for_a_while_after_it_left():
    lives = lives_of((0, 100.0, 5000.0))
    assert not lives.step(99.0).came.size
    assert lives.step(101.0).came.tolist() == [0]
    assert not lives.seen[0]
    changes = lives.step(100.0 + JOIN_S)
    assert changes.appeared.tolist() == changes.newcomers.tolist() == [0]
    changes = lives.step(5000.0)
    assert changes.left.tolist() == [0]
    assert lives.seen[0]
    changes = lives.step(5000.0 + HOUR_S)
    assert changes.vanished.tolist() == [0]


def test_whoever_is_back_within_the_hour_is_no_newcomer():
    soon = lives_of((0, 0.0, 3000.0), (0, 6000.0, 20_000.0))
    late = lives_of((0, 0.0, 3000.0), (0, 12_000.0, 20_000.0))
    for lives in (soon, late):
        lives.step(5000.0)
        assert not lives.seen[0]
    assert soon.step(6100.0).newcomers.tolist() == []
    assert soon.seen[0]
    assert late.step(12_100.0).newcomers.tolist() == [0]


def test_whoever_is_back_before_it_is_missed_was_never_away_for_others():
    lives = lives_of((0, 0.0, 3000.0), (0, 3010.0, 20_000.0))
    lives.step(2999.0)
    for until_s in range(3000, 9000, 50):
        assert not lives.step(float(until_s)).vanished.size


def test_the_killed_are_gone_at_once_and_missed_later_and_do_not_return():
    lives = lives_of((0, 0.0, 4000.0), (0, 9000.0, 20_000.0), (1, 0.0, 20_000.0))
    lives.step(3000.0)
    lives.kill(np.array([0]), 3000.0)
    assert lives.on.tolist() == [False, True]
    assert lives.seen.tolist() == [True, True]
    lives.step(3000.0 + HOUR_S)
    assert lives.seen.tolist() == [False, True]
    lives.step(20_000.0 - 1)
    assert lives.on.tolist() == [False, True]


@pytest.mark.parametrize("away_s", [0.0, 2 * HOUR_S])
def test_as_many_are_there_at_any_time_and_stay_as_long_as_the_law_says(away_s):
    law = Sessions()
    lives = Lives.drawn(5000, 10 * HOUR_S, law, generator(), away_s)
    lives.step(0.0)
    assert lives.on.sum() == 5000
    first = lives.on.copy()
    lives.step(10 * HOUR_S)
    assert abs(lives.on.sum() - 5000) < 250
    stayed = (first & lives.on).sum() / 5000
    assert stayed == pytest.approx(law.residual_survival(10 * HOUR_S), abs=0.03) or (
        away_s and stayed > 0.6
    )
