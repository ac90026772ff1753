"""The run from the instant on."""

import pytest

from simulations.people.crash import Plan, crash, normal_requests_per_s
from simulations.run_context import Run


def test_an_idle_user_asks_once_in_ten_seconds_or_less_often():
    assert 0.02 < normal_requests_per_s() < 0.2


@pytest.mark.slow
def test_users_come_back_within_the_minute():
    run = Run(1)
    found = crash(Plan(8, 400, 0.25, 10_000, 0.0, 0), run)
    assert found.reachable == (1.0, 1.0)
    assert found.back_s <= 60.0
    assert found.calls[0].success == 1.0
    assert len(run.series["minutes"]) == 60
