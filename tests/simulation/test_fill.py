"""Buckets are as full as the law says, and nearly everybody knows its neighbours."""

import numpy as np
import pytest

from simulations.run_context import Run
from simulations.runs import run
from simulations.scenarios.fill import FillScenario, exact_means


def test_buckets_of_a_measured_size_follow_the_law(checked):
    figures = checked(FillScenario(networks=4)).figures
    assert figures.full_mean >= 19.9


def test_a_network_that_knows_all_knows_more_than_the_measured_one(checked):
    figures = checked(FillScenario(nodes=4000, networks=10)).figures
    assert figures.know_all_share > 0.9
    assert figures.miss_16_share == 0


def test_whom_nobody_told_of_is_missing_among_the_nearest():
    all_known, some = (
        run(FillScenario(nodes=2000, networks=3, heard=heard)).figures
        for heard in (1.0, 0.97)
    )
    # 0.97 to the power of 20.
    assert some.know_all_share / all_known.know_all_share == pytest.approx(
        0.544, abs=0.02
    )
    assert some.worst_exact_error < 0.05


def test_means_of_buckets_are_kept_as_a_series():
    context = Run(1)
    run(FillScenario(nodes=500, networks=2), context)
    rows = context.series["buckets"]
    assert [row["bucket"] for row in rows] == list(range(len(rows)))
    assert rows[0]["mean"] == 20


def test_exact_means_are_those_of_drawn_numbers():
    drawn = np.random.default_rng(1).binomial(999, 0.5**6, 200_000)
    expected = np.minimum(drawn, 20).mean()
    assert exact_means(1000, 20, 6)[5] == pytest.approx(expected, abs=0.03)


def test_a_network_too_small_for_full_buckets_has_none():
    figures = run(FillScenario(nodes=100, k=60, networks=2)).figures
    assert figures.full_mean == figures.full_share == 0.0


def test_the_same_seed_gives_the_same_digest():
    scenario = FillScenario(nodes=300, networks=2)
    assert run(scenario).digest == run(scenario).digest
