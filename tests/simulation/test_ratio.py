"""Cost per user and its growth."""

import pytest

from opnode.core.errors import ConfigError
from simulations.parameters import build
from simulations.runs import run
from simulations.scenarios.ratio import RatioScenario


@pytest.mark.slow
def test_growth_is_logarithmic_and_repeats(checked):
    scenario = RatioScenario(users=50_000)
    outcome = checked(scenario)
    assert outcome.figures.growth_server.exponent_late < 0.1
    assert outcome.digest == run(scenario).digest


def test_more_real_users_than_a_machine_bears_are_refused():
    with pytest.raises(ConfigError, match="--users"):
        build(RatioScenario, {"backend": "real", "users": 100_000})
