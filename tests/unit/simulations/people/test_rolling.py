"""Introducers under churn."""

import statistics

import pytest

from simulations.model.durations import NAT_TIMERS_S
from simulations.people.keeping import interval_s
from simulations.people.rolling import REPAIR_S, Churn, Rolling
from simulations.run_context import Run

_CALM = Churn(
    servers=30,
    users=20,
    server_median_s=1e9,
    user_median_s=600.0,
    roll_every_s=0.0,
    roll_share=0.0,
    rebindings=0.0,
)
_DAY_S = 86_400.0


def _run(until_s=_DAY_S, probes=20_000, **churn):
    rolling = Rolling(_CALM._replace(**churn), Run(1))
    rolling.begin(until_s, probes)
    rolling.loop.run_until(until_s)
    return rolling, rolling.called()


def test_servers_that_stay_fail_nobody():
    _, called = _run()
    assert called.tried == 20_000
    assert (called.failed_first, called.failed_all, called.replaced) == (0, 0, 0)


def test_calls_fail_at_first_as_long_as_a_nat_that_forgot_goes_unnoticed():
    _, called = _run(rebindings=100.0)
    silent_s = statistics.fmean(map(interval_s, NAT_TIMERS_S)) / 6 + REPAIR_S
    expected = 100.0 * silent_s / _DAY_S
    assert called.failed_first / called.tried == pytest.approx(expected, rel=0.15)
    assert called.failed_all < called.failed_first / 2


def test_deaths_of_many_at_once_are_mended_within_three_tries():
    _, called = _run(roll_every_s=600.0, roll_share=0.6)
    assert called.replaced > 0
    assert 0 < called.failed_first < 0.05 * called.tried
    assert called.failed_all < called.failed_first


def test_the_same_seed_gives_the_same_events():
    found = {_run(3600.0, 100, server_median_s=600.0)[0].loop.digest() for _ in "ab"}
    assert len(found) == 1
