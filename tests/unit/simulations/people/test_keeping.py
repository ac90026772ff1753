"""Rates of an idle user."""

import pytest

from simulations.people.keeping import interval_s, keeping


@pytest.mark.parametrize("timer_s", [30.0, 60.0, 180.0])
def test_the_interval_is_below_the_timer_and_not_far(timer_s):
    assert min(timer_s, 120.0) * 0.85 <= interval_s(timer_s) < timer_s


def test_each_turn_is_a_ping_or_a_registration():
    rates = keeping(28.0)
    assert rates.pings + rates.registers == pytest.approx(1 / 28.0)


def test_a_registration_is_renewed_at_the_first_turn_after_half_of_its_life():
    assert 1 / keeping(28.0).registers == pytest.approx(308.0)
    assert 1 / keeping(118.5).registers == pytest.approx(355.5)
