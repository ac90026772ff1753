"""Simulated disjoint lookups succeed as often as the closed form says."""

import pytest

from opnode.core.errors import ConfigError
from simulations.backends.vector.disjoint import Lie
from simulations.parameters import build
from simulations.runs import run
from simulations.scenarios.disjoint import TABLE, TABLE_PATHS, DisjointScenario

CELLS = [
    (nodes, k, liars, paths)
    for (nodes, k), rows in TABLE.items()
    for liars in rows
    for paths in TABLE_PATHS
]


@pytest.mark.parametrize(("nodes", "k", "liars", "paths"), CELLS[::7])
def test_some_cells_of_the_table_are_met(checked, nodes, k, liars, paths):
    # A standard error is 0.7 points at most.
    outcome = checked(
        DisjointScenario(nodes=nodes, k=k, liars=liars, paths=paths, lookups=5000)
    )
    assert (
        outcome.figures.table_rate == TABLE[nodes, k][liars][TABLE_PATHS.index(paths)]
    )


@pytest.mark.slow
@pytest.mark.parametrize(("nodes", "k", "liars", "paths"), CELLS)
def test_every_cell_of_the_table_is_met(checked, nodes, k, liars, paths):
    # A standard error is 0.65 points at most.
    checked(DisjointScenario(nodes=nodes, k=k, liars=liars, paths=paths, lookups=6000))


def test_lost_paths_that_go_astray_do_not_harm_the_others():
    figures = run(DisjointScenario(liars=0.5, lookups=4000)).figures
    slack = 3 * figures.success_rate_se
    assert figures.success_rate_astray > figures.success_rate - slack


def test_liars_who_name_the_nearest_of_them_betray_them():
    any_of_them, nearest = (
        run(DisjointScenario(liars=0.5, lookups=4000, lie=lie)).figures
        for lie in (Lie.ANY, Lie.NEAREST)
    )
    assert nearest.success_rate_astray > any_of_them.success_rate_astray + 0.05


def test_without_liars_every_lookup_succeeds():
    figures = run(DisjointScenario(liars=0.0, lookups=1000)).figures
    assert figures.success_rate == figures.success_rate_astray == 1.0
    assert figures.arrived_rate > 0.99


def test_more_paths_than_contacts_are_refused():
    with pytest.raises(ConfigError, match="paths"):
        build(DisjointScenario, {"k": 4, "paths": 5})


def test_the_same_seed_gives_the_same_digest():
    scenario = DisjointScenario(nodes=500, lookups=300)
    assert run(scenario).digest == run(scenario).digest
