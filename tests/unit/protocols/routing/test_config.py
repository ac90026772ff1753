"""`config`: the schedule of checks keeps few dead contacts at any age."""

import math

import pytest

from opnode.protocols.routing.config import RoutingConfig

SHAPE, SCALE_S = 0.608, 3.66 * 3600


def dies_within(age_s, pause_s):
    """The chance under the field's churn (Weibull) that a node of this age leaves."""
    hazard = ((age_s + pause_s) / SCALE_S) ** SHAPE - (age_s / SCALE_S) ** SHAPE
    return 1 - math.exp(-hazard)


@pytest.mark.parametrize("age_s", [600, 3600, 4 * 3600, 24 * 3600])
def test_of_contacts_of_any_age_four_in_a_hundred_are_dead_between_two_checks(age_s):
    pause_s = RoutingConfig().pause_s(age_s)
    # The pair's jitter adds an eighth on average; a death is noticed half a pause late.
    dead = dies_within(age_s, pause_s * 1.125) / 2
    assert 0.02 < dead < 0.048


def test_the_pause_stays_within_its_bounds():
    config = RoutingConfig()
    assert config.pause_s(0.0) == config.check_min_s
    assert config.pause_s(1e9) == config.check_max_s
