"""Records outlive their holders, and their owners' absence."""

import pytest

from simulations.scenarios.churn import ChurnScenario


def test_half_an_hour_of_churn_loses_no_record(checked):
    checked(ChurnScenario(nodes=40, seed=1, hours=0.5, records=20))


@pytest.mark.slow
def test_hours_of_churn_lose_no_record(checked):
    checked(ChurnScenario(nodes=80, seed=1, hours=6.0, records=50))
