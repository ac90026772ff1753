"""Users behind NATs that forget soon stay reachable."""

import pytest

from simulations.runs import run
from simulations.scenarios.nat_timers import NatTimersScenario

pytestmark = pytest.mark.slow


def test_users_stay_reachable_behind_nats_that_forget_after_30_seconds():
    outcome = run(NatTimersScenario(users=2, hours=0.5))
    for timer in outcome.figures.timers:
        assert timer.calls.tried > 2, outcome.command
        assert timer.unreachable_s_max <= 25.0, f"{outcome.command}: {timer}"
