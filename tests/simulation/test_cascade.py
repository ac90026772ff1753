"""Users are back a minute after servers died and everybody restarted."""

import pytest

from opnode.core.errors import ConfigError
from simulations.parameters import build
from simulations.runs import run
from simulations.scenario import Backend
from simulations.scenarios.cascade import CascadeScenario


@pytest.mark.slow
def test_users_come_back_when_servers_die_and_everybody_restarts(checked):
    outcome = checked(CascadeScenario(servers=6, users=16))
    assert outcome.figures.servers.died == 2


@pytest.mark.slow
def test_events_bring_back_as_many_as_real_nodes_and_repeat(checked):
    scenario = CascadeScenario(backend=Backend.EVENT, servers=8, users=400)
    outcome = checked(scenario)
    assert outcome.digest == run(scenario).digest


@pytest.mark.slow
def test_naive_servers_all_end():
    outcome = run(
        CascadeScenario(backend=Backend.EVENT, servers=8, users=800, naive=True)
    )
    assert not outcome.figures.met
    assert outcome.figures.servers.alive == 0


def test_real_nodes_are_never_naive():
    with pytest.raises(ConfigError, match="--naive"):
        build(CascadeScenario, {"naive": True})
