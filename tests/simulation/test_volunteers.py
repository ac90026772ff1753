"""Volunteers stay when everything they serve is limited."""

import pytest

from opnode.core.errors import ConfigError
from simulations.parameters import build
from simulations.people.selfish import Limits
from simulations.runs import run
from simulations.scenarios.volunteers import VolunteersScenario


@pytest.mark.slow
def test_volunteers_stay_with_a_limit_on_everything_and_leave_without(checked):
    scenario = VolunteersScenario(users=4000, days=7)
    outcome = checked(scenario)
    assert outcome.digest == run(scenario).digest
    without = run(VolunteersScenario(users=4000, days=7, limits=Limits.NONE))
    assert without.figures.stay < 0.5


def test_fewer_users_than_a_volunteer_has_are_refused():
    with pytest.raises(ConfigError, match="--ratio"):
        build(VolunteersScenario, {"users": 100, "ratio": 1000})
