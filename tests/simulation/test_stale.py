"""Lookups among the dead: naive ones wait for timeouts, shipped ones do not."""

from simulations.runs import run
from simulations.scenarios.stale import StaleFigures, StaleScenario


def _figures(seed: int = 1) -> StaleFigures:
    figures = run(StaleScenario(nodes=2000, lookups=40, seed=seed)).figures
    assert figures is not None
    return figures


def test_a_naive_lookup_waits_for_timeouts_and_the_shipped_one_does_not() -> None:
    figures = _figures()
    assert figures.naive_s_median > 4.0
    assert figures.shipped_s_median < 2.0
    assert figures.shipped_first_s_median < 0.6
    assert figures.exact > 0.95


def test_the_same_seed_gives_the_same_figures_and_another_seed_others() -> None:
    assert _figures() == _figures() != _figures(2)
