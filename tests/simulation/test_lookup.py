"""Every stored record is found on a network without faults; a run repeats itself."""

import gc
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

from simulations.scenarios.lookup import LookupScenario, run_lookup

SEEDS = [1, 2, 3, 4, 5]


def check(result):
    command = (
        f"python -m simulations lookup --nodes {result.nodes} --seed {result.seed}"
    )
    assert result.success_rate == 1.0, command
    assert result.closest_exact_rate >= 0.99, command


@pytest.mark.parametrize("seed", SEEDS)
def test_all_records_are_found_among_50_nodes(seed):
    check(run_lookup(LookupScenario(nodes=50, seed=seed, records=25)))


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [400, 1000])
def test_all_records_are_found_among_many_nodes_for_every_seed(nodes):
    scenarios = [LookupScenario(nodes=nodes, seed=s, records=25) for s in SEEDS]
    # Seeds share nothing, so two cores halve the time. Almost everything made lives to
    # the end, so looking for garbage costs a sixth of the time and finds none.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context, initializer=gc.disable) as pool:
        for result in pool.map(run_lookup, scenarios):
            check(result)


def test_the_same_seed_gives_the_same_digest_and_another_seed_another():
    scenario = LookupScenario(nodes=50, seed=7, records=10)
    first = run_lookup(scenario)
    assert first == run_lookup(scenario)
    other = run_lookup(LookupScenario(nodes=50, seed=8, records=10))
    assert other.digest != first.digest


def test_a_fifth_of_dead_nodes_and_loss_cost_no_record():
    result = run_lookup(LookupScenario(nodes=80, seed=1, dead=0.2, loss=0.02))
    assert result.success_rate == 1.0
    assert result.dead == 16
