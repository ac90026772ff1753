"""The law of sessions is the one that was measured in the field."""

import random

import numpy as np
import pytest

from simulations.model.durations import HOUR_S
from simulations.model.sessions import Sessions

LAW = Sessions()


@pytest.mark.parametrize(("hours", "left"), [(2, 0.5), (8, 0.2)])
def test_the_law_goes_through_both_points_that_were_measured(hours, left):
    assert LAW.survival(hours * HOUR_S) == pytest.approx(left, abs=0.002)


@pytest.mark.parametrize(
    ("hours", "stays"), [(0, 0.635), (2, 0.824), (8, 0.887), (24, 0.924)]
)
def test_the_longer_a_node_is_up_the_likelier_it_stays_an_hour(hours, stays):
    up_s = hours * HOUR_S
    found = LAW.survival(up_s + HOUR_S) / LAW.survival(up_s)
    assert found == pytest.approx(stays, abs=0.001)


def test_drawn_sessions_follow_the_law_one_by_one_and_many_at_once():
    rng, generator = random.Random(1), np.random.default_rng(1)
    one_by_one = np.array([LAW.whole_s(rng) for _ in range(20_000)])
    for drawn in (one_by_one, LAW.many_whole_s(generator, 20_000)):
        assert np.mean(drawn > 2 * HOUR_S) == pytest.approx(0.5, abs=0.02)
        assert np.mean(drawn > 8 * HOUR_S) == pytest.approx(0.2, abs=0.02)


def test_what_is_left_of_a_session_met_at_random_is_longer_than_a_new_one():
    # E[residual] = E[T^2] / (2 E[T]), from the theory of renewal.
    generator = np.random.default_rng(2)
    whole = LAW.many_whole_s(generator, 400_000)
    expected = np.mean(whole**2) / (2 * np.mean(whole))
    rng = random.Random(2)
    one_by_one = np.array([LAW.residual_s(rng) for _ in range(200_000)])
    for drawn in (one_by_one, LAW.many_residual_s(generator, 400_000)):
        assert np.mean(drawn) == pytest.approx(expected, rel=0.05)
        assert np.mean(drawn) > LAW.mean_s


@pytest.mark.parametrize("hours", [0, 1, 10, 36])
def test_the_share_that_stays_is_what_is_drawn_and_as_much_is_past_as_left(hours):
    past, left = LAW.many_met_s(np.random.default_rng(3), 200_000)
    expected = LAW.residual_survival(hours * HOUR_S)
    for drawn in (past, left):
        assert np.mean(drawn >= hours * HOUR_S) == pytest.approx(expected, abs=0.005)
