"""Half of the network may die at one instant: what was stored is found, and heals."""

import pytest

from simulations.runs import run
from simulations.scenarios.mass_failure import MassFailureScenario

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
