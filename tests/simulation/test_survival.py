"""Records survive hours of churn without their owners, and fade away without care."""

import pytest

from simulations.runs import run
from simulations.scenarios.survival import SurvivalScenario

SMALL = {"nodes": 1000, "records": 500}


def test_no_record_is_lost_and_readers_ask_nodes_that_hold_it(checked):
    figures = checked(SurvivalScenario(**SMALL, hours=10)).figures
    assert figures.lost == figures.unfound_most == 0
    assert figures.overlap_10h > 0.9


def test_without_care_as_many_are_lost_as_the_law_says(checked):
    figures = checked(SurvivalScenario(**SMALL, hours=10, k=5, careless=True)).figures
    assert figures.lost > 0


@pytest.mark.slow
def test_the_closest_set_drifts_as_in_the_field_where_nodes_come_back(checked):
    figures = checked(SurvivalScenario(**SMALL, hours=36, away_h=1.8)).figures
    assert figures.drift_1h >= 16
    assert figures.drift_36h >= 14


def test_the_same_seed_gives_the_same_digest_and_another_seed_another():
    first, again, other = (
        run(SurvivalScenario(**SMALL, hours=1, seed=seed)).digest for seed in (1, 1, 2)
    )
    assert first == again != other
