"""Every stored record is found on a network without faults; a run repeats itself."""

import pytest

from simulations.scenarios.lookup import LookupScenario, run_lookup

SEEDS = [1, 2, 3, 4, 5]


def check(nodes, seed):
    result = run_lookup(LookupScenario(nodes=nodes, seed=seed, records=25))
    command = f"python -m simulations lookup --nodes {nodes} --seed {seed} --records 25"
    assert result.success_rate == 1.0, command
    assert result.closest_exact_rate >= 0.99, command


@pytest.mark.parametrize("seed", SEEDS)
def test_all_records_are_found_among_50_nodes(seed):
    check(50, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_all_records_are_found_among_400_nodes(seed):
    check(400, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_all_records_are_found_among_1000_nodes(seed):
    check(1000, seed)


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
