"""Confidence limits of rare failures."""

import pytest

from simulations.people.limits import share_of


def test_no_failure_is_the_rule_of_three():
    assert share_of(300_000, 0).failure_limit == pytest.approx(1e-5, rel=0.01)


@pytest.mark.parametrize(("failed", "mean"), [(1, 4.744), (3, 7.754), (10, 16.962)])
def test_limits_are_those_of_the_tables(failed, mean):
    assert share_of(1000, failed).failure_limit == pytest.approx(mean / 1000, rel=1e-3)


def test_success_is_what_did_not_fail():
    assert share_of(200, 3).success == pytest.approx(0.985)
