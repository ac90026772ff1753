"""Fits of growth."""

import math

import pytest

from simulations.people.growth import growth

_SIZES = [10**power for power in range(2, 8)]


def test_a_logarithm_is_fitted_exactly():
    found = growth(_SIZES, [7 + 3 * math.log(size) for size in _SIZES])
    assert found.a == pytest.approx(7)
    assert found.b == pytest.approx(3)
    assert found.r_squared == pytest.approx(1)
    assert found.residual_max < 1e-9


def test_a_root_has_the_exponent_of_one_half():
    found = growth(_SIZES, [5 * math.sqrt(size) for size in _SIZES])
    assert found.exponent == pytest.approx(0.5)


def test_a_root_behind_a_constant_shows_late():
    found = growth(_SIZES, [1000 + math.sqrt(size) for size in _SIZES])
    assert found.exponent_late > 0.1 > growth(_SIZES, [1000.0] * 6).exponent_late


def test_two_points_say_nothing():
    assert growth([1, 2], [1, 2]) is None
