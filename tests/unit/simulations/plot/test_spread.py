"""The spread of some runs is their median and the middle eighty per cent."""

import pytest

from simulations.plot.spread import Spread, spread


def test_one_value_has_no_band():
    assert spread([2.0]) == Spread(2.0, 2.0, 2.0, 1)


def test_the_band_leaves_out_a_tenth_on_either_side():
    found = spread([float(n) for n in range(101)])
    assert found.median == 50
    assert (found.low, found.high) == pytest.approx((10, 90))
    assert found.n == 101


def test_one_wild_run_does_not_move_the_median():
    assert spread([1.0, 1.0, 1.0, 1e9]).median == 1
