"""Every stored record is found on a network without faults; a run repeats itself."""

import pytest

from simulations.runs import run
from simulations.scenarios.lookup import LookupScenario

SEEDS = [1, 2]


def check_exact(outcome):
    figures = outcome.figures
    assert figures.met, f"{outcome.command}: {figures}"
    assert figures.closest_exact_rate >= 0.99, f"{outcome.command}: {figures}"


@pytest.mark.parametrize("seed", SEEDS)
def test_all_records_are_found_among_50_nodes(seed):
    check_exact(run(LookupScenario(nodes=50, seed=seed, records=25, askers=10)))


@pytest.mark.slow
def test_all_records_are_found_among_a_thousand_nodes():
    check_exact(run(LookupScenario(nodes=1000, seed=1, records=25, askers=10)))


@pytest.mark.slow
def test_half_of_the_nodes_may_die_at_once(checked):
    checked(LookupScenario(nodes=400, seed=1, dead=0.5))


def test_the_same_seed_gives_the_same_digest_and_another_seed_another():
    scenario = LookupScenario(nodes=30, seed=7, records=5, askers=5)
    first, again = run(scenario), run(scenario)
    assert (first.digest, first.figures) == (again.digest, again.figures)
    other = run(LookupScenario(nodes=30, seed=8, records=5, askers=5))
    assert other.digest != first.digest


def test_a_fifth_of_dead_nodes_and_loss_cost_no_record(checked):
    checked(
        LookupScenario(nodes=50, seed=1, dead=0.2, loss=0.02, records=20, askers=10)
    )


@pytest.mark.slow
def test_records_are_found_where_every_node_has_a_network_of_its_own(checked):
    checked(LookupScenario(nodes=50, seed=1, public=True, records=25, askers=10))


def test_the_command_of_a_run_names_every_option_that_is_not_the_default():
    outcome = run(LookupScenario(nodes=10, seed=3, public=True, records=2, askers=5))
    begin = "python -m simulations run lookup --nodes 10 --seed 3"
    assert outcome.command == f"{begin} --public --records 2 --askers 5"
