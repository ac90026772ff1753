"""Records outlive their holders, and their owners' absence."""

import pytest

from simulations.scenarios.churn.scenario import ChurnScenario


def test_a_little_churn_loses_no_record(checked):
    checked(ChurnScenario(nodes=30, seed=1, hours=0.2, records=10))


@pytest.mark.slow
def test_hours_of_churn_lose_no_record(checked):
    checked(ChurnScenario(nodes=50, seed=1, hours=3.0, records=50))
