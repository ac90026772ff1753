"""A year, in a few days."""

import pytest

from opnode.core.errors import ConfigError
from simulations.parameters import build
from simulations.runs import run
from simulations.scenarios.year import YearScenario


def test_established_connections_lose_nothing_and_introductions_hardly_fail(checked):
    scenario = YearScenario(days=3, probes=10_000, users=50, connections=20)
    outcome = checked(scenario)
    figures = outcome.figures
    assert figures.established.failed == 0
    assert figures.replaced > 100
    assert outcome.digest == run(scenario).digest


def test_more_probes_than_seconds_are_refused():
    with pytest.raises(ConfigError, match="--probes"):
        build(YearScenario, {"days": 1, "probes": 100_000})
