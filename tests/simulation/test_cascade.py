"""Users are back a minute after servers died and everybody restarted."""

import pytest

from simulations.scenarios.cascade import CascadeScenario

pytestmark = pytest.mark.slow


def test_users_come_back_when_servers_die_and_everybody_restarts(checked):
    outcome = checked(CascadeScenario(servers=6, users=16))
    assert outcome.figures.servers.died == 2
