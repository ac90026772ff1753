"""A node's own estimate of the network's size is as good as the published one."""

import numpy as np
import pytest

from opnode.protocols.density import Density
from simulations.runs import run
from simulations.scenarios.size import SizeScenario, expected_bias, published_sizes


def test_the_estimate_of_two_million_nodes_is_as_good_as_published(checked):
    figures = checked(SizeScenario(estimates=1000)).figures
    assert figures.sd_published_share == pytest.approx(0.281 * 16**-0.529, abs=0.005)
    assert figures.mean_published == pytest.approx(2_123_314, rel=0.01)
    # Without the bias that theory gives it, it is right to a hundredth.
    assert figures.mean_corrected == pytest.approx(2_000_000, rel=0.01)


def test_the_shipped_rule_is_the_published_one_for_a_single_lookup():
    away = np.cumsum(np.random.default_rng(1).integers(1, 2**50, 20, dtype=np.uint64))
    density = Density()
    target = bytes(20)
    density.add(target, [int(one).to_bytes(8, "big") + bytes(12) for one in away])
    assert density.size == pytest.approx(published_sizes(away[:, None])[0])


def test_evenly_spread_ids_are_counted_exactly():
    away = np.arange(1, 21, dtype=np.uint64) << np.uint64(44)
    assert published_sizes(away[:, None])[0] == pytest.approx(2**20)


def test_the_bias_is_that_of_one_over_a_sum_of_exponential_gaps():
    gaps = np.random.default_rng(2).exponential(size=(20, 200_000))
    ranks = np.arange(1, 21)[:, None]
    samples = (ranks**2).sum() / (ranks * gaps.cumsum(axis=0)).sum(axis=0)
    # The expansion ends with the second order.
    assert expected_bias(20) == pytest.approx(samples.mean() - 1, abs=0.006)


def test_more_lookups_make_a_better_estimate():
    few, many = (
        run(SizeScenario(nodes=20_000, lookups=lookups, estimates=300)).figures
        for lookups in (4, 32)
    )
    assert many.sd_share < few.sd_share / 2


def test_the_same_seed_gives_the_same_digest():
    scenario = SizeScenario(nodes=500, estimates=20)
    assert run(scenario).digest == run(scenario).digest
