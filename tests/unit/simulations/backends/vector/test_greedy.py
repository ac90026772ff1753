"""A greedy path ends at its target, and its length follows the law."""

import numpy as np
import pytest

from simulations.backends.vector.greedy import hops_of
from simulations.backends.vector.population import Population
from simulations.backends.vector.tables import Draw, Tables


def mean_hops(count, k, draw=Draw.DISTINCT):
    generator = np.random.default_rng(2)
    drawn = Tables(Population.drawn(generator, count), k, 2, draw)
    starts, targets = generator.integers(0, count, (2, 8000))
    return hops_of(drawn, starts, targets).mean()


def test_nobody_is_a_hop_away_from_itself():
    drawn = Tables(Population.drawn(np.random.default_rng(1), 50), 20, 1)
    nodes = np.arange(50)
    assert hops_of(drawn, nodes, nodes).tolist() == [0] * 50


def test_whoever_knows_everybody_is_one_hop_away():
    drawn = Tables(Population.drawn(np.random.default_rng(1), 20), 20, 1)
    assert hops_of(drawn, np.arange(20), np.roll(np.arange(20), 1)).tolist() == [1] * 20


@pytest.mark.parametrize(
    ("k", "published"), [(1, 6.59), (8, 3.18), (10, 3.01), (16, 2.69), (20, 2.57)]
)
def test_independent_draws_give_the_published_means_at_ten_thousand(k, published):
    # Three standard errors of k = 1 are 0.06, of the others 0.025.
    within = 0.07 if k == 1 else 0.035
    found = mean_hops(10_000, k, Draw.INDEPENDENT)
    assert found == pytest.approx(published, abs=within)


def test_different_members_save_a_few_hundredths_of_a_hop():
    saved = mean_hops(10_000, 8, Draw.INDEPENDENT) - mean_hops(10_000, 8)
    assert 0.02 < saved < 0.1
