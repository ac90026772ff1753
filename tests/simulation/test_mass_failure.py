"""Half of the network may die at one instant: what was stored is found, and heals."""

import pytest

from opnode.core.errors import ConfigError
from simulations.runs import run
from simulations.scenario import Backend
from simulations.scenarios.mass_failure.scenario import MassFailureScenario

SMALL = {"nodes": 30, "records": 5, "periods": 1}


def test_records_survive_half_of_the_nodes_and_have_new_holders_an_hour_later(checked):
    figures = checked(MassFailureScenario(**SMALL)).figures
    at_once, healed = figures.after
    assert figures.died == 15
    assert at_once.stale_rate > 0.4
    assert healed.stale_rate < 0.05
    assert healed.holders_mean > at_once.holders_mean


@pytest.mark.slow
def test_more_dead_leave_fewer_holders():
    half, most = (
        run(MassFailureScenario(**SMALL, dead=dead)).figures.after[0]
        for dead in (0.5, 0.8)
    )
    assert most.holders_mean < half.holders_mean


@pytest.mark.slow
def test_two_hours_after_half_died_every_record_has_all_its_holders(checked):
    figures = checked(MassFailureScenario(nodes=50, records=10)).figures
    assert figures.after[-1].closest_rate > 0.99


def test_on_events_most_is_found_at_once_and_all_holders_are_back_two_hours_later(
    checked,
):
    scenario = MassFailureScenario(
        backend=Backend.EVENT, nodes=1000, records=50, gets=100
    )
    figures = checked(scenario).figures
    assert figures.after[0].closest_rate < 0.6
    assert figures.after[0].first.s_median > figures.after[-1].first.s_median
    assert figures.after[-1].closest_rate > 0.99
    assert figures.after[-1].stale_rate < 0.01


def test_so_many_die_on_events_that_records_are_lost():
    scenario = MassFailureScenario(
        backend=Backend.EVENT, nodes=1000, records=200, dead=0.95, periods=0
    )
    figures = run(scenario).figures
    assert figures.lost > 0
    assert figures.success_at_once < 1.0


def test_a_hundred_thousand_nodes_are_too_many_for_the_real_backend():
    with pytest.raises(ConfigError, match="nodes"):
        MassFailureScenario(nodes=100_000).check()
