"""A network that was cut in two becomes one again, and no reader goes back."""

import pytest

from simulations.run_context import Run
from simulations.runs import run
from simulations.scenarios.partition import PartitionScenario

SMALL = {"nodes": 20, "records": 1, "readers": 2, "versions": 2, "hours": 1}


def check(outcome):
    figures = outcome.figures
    assert figures.met, f"{outcome.command}: {figures}"
    assert figures.went_back == figures.lost == 0
    assert figures.across_after > 0.4
    assert figures.near_after > 0.95


def test_after_minutes_apart_readers_soon_have_the_newest_of_both_sides():
    context = Run(1)
    outcome = run(PartitionScenario(**SMALL, minutes=5), context)
    check(outcome)
    first = context.series["merging"][0]
    assert first["newest_at_first"] < 1.0


@pytest.mark.slow
def test_after_hours_apart_nobody_knows_the_other_side_and_they_meet_again():
    outcome = run(PartitionScenario(**SMALL, minutes=180))
    assert outcome.figures.across_at_heal == 0.0
    check(outcome)
