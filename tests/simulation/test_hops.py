"""Paths are as short as published, and a run repeats itself."""

import pytest

from opnode.core.errors import ConfigError
from simulations.parameters import build
from simulations.runs import run
from simulations.scenarios.hops.scenario import HopsScenario


@pytest.mark.parametrize("k", [8, 20])
@pytest.mark.parametrize("nodes", [1000, 10_000, 100_000, 1_000_000])
def test_mean_hops_are_those_of_the_table(checked, nodes, k):
    figures = checked(HopsScenario(nodes=nodes, k=k, seed=2)).figures
    assert figures.hops_expected is not None
    assert figures.mean_hops_distinct < figures.mean_hops


@pytest.mark.slow
def test_ten_million_nodes_are_four_hops_and_three_rounds_apart(checked):
    figures = checked(HopsScenario(nodes=10**7, lookups=5000)).figures
    assert figures.mean_rounds < 3.1
    assert figures.p99_hops == 6


def test_the_same_seed_gives_the_same_digest_and_another_seed_another():
    scenario = HopsScenario(nodes=5000, lookups=500)
    first = run(scenario)
    assert first.digest == run(scenario).digest
    assert first.digest != run(HopsScenario(nodes=5000, lookups=500, seed=2)).digest


def test_how_many_lookups_run_at_once_changes_no_table():
    few = run(HopsScenario(nodes=5000, lookups=4096)).figures
    more = run(HopsScenario(nodes=5000, lookups=5000)).figures
    assert abs(few.mean_hops - more.mean_hops) < 0.05


def test_nobody_asks_more_at_once_than_it_knows():
    with pytest.raises(ConfigError, match="alpha"):
        build(HopsScenario, {"k": 2, "alpha": 3})


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"backend": "real", "k": 8}, "--k"),
        ({"backend": "event", "alpha": 5}, "--alpha"),
        ({"backend": "real", "nodes": 10**6}, "--nodes"),
        (
            {"backend": "real", "nodes": 99, "round_trips": "log-normal"},
            "--round-trips",
        ),
    ],
)
def test_what_the_shipped_lookup_does_not_leave_open_is_refused(options, named):
    with pytest.raises(ConfigError, match=named):
        build(HopsScenario, options)
