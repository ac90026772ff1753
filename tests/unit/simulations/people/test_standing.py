"""Connections that stand."""

import numpy as np
import pytest

from simulations.model.durations import DAY_S
from simulations.people.standing import Weather, stand

_CALM = Weather(
    days=10.0,
    bursts=0.0,
    burst_median_s=1.0,
    burst_sigma=0.0,
    moves=0.0,
    rebindings=0.0,
    relayed=0.0,
    relay_deaths=0.0,
    lost_introducers=0.0,
)


def _stand(probes=100_000, **weather):
    generator = np.random.default_rng(1)
    return stand(10, probes, _CALM._replace(**weather), generator)


def test_nothing_happens_in_calm_weather():
    seen = _stand()
    assert (seen.failed, seen.ended, seen.waits_s.max()) == (0, 0, 0.0)


def test_messages_wait_as_often_as_nothing_passes():
    seen = _stand(bursts=500.0, burst_median_s=2.0)
    assert (seen.waits_s > 0).mean() == pytest.approx(500 * 2 / DAY_S, rel=0.1)
    assert seen.waits_s.max() <= 6.0
    assert seen.failed == 0


def test_silences_that_touch_end_a_connection():
    seen = _stand(bursts=10_000.0, burst_median_s=25.0)
    assert seen.ended > 0
    assert seen.failed > 0


def test_both_ends_move_at_once_as_often_as_chance_says():
    seen = _stand(moves=2000.0)
    expected = 10 * 10 * 2000 * 2000 * 2.2 / DAY_S
    # A move counts once, however many of the other end are near.
    assert seen.met_both == pytest.approx(expected, rel=0.1)
