"""Dead contacts are found out at the check after their end, as nodes find out."""

import numpy as np
import pytest

from opnode.protocols.routing import RoutingConfig
from simulations.backends.event.checks import CheckLaw, confirming_s

HORIZON_S = 100_000.0


def _shipped_checks(jitter: int, until_s: float) -> list[float]:
    """Step by step, as `Table` schedules them for one that always answers."""
    config, times = RoutingConfig(), [0.0]
    while times[-1] < until_s:
        times.append(times[-1] + config.pause_s(times[-1]) * (1 + jitter / 1024))
    return times[1:]


@pytest.mark.parametrize("jitter", [0, 100, 255])
@pytest.mark.parametrize("life_s", [1.0, 299.0, 3600.0, 50_000.0])
def test_a_contact_is_dropped_after_the_first_check_that_it_misses(
    jitter: int, life_s: float
) -> None:
    law = CheckLaw(horizon_s=HORIZON_S)
    found_at = law.found_at(
        np.array([500.0]), np.array([500.0 + life_s]), np.array([jitter])
    )
    missed = next(t for t in _shipped_checks(jitter, HORIZON_S) if t >= life_s)
    assert found_at[0] == pytest.approx(500.0 + missed + confirming_s())


@pytest.mark.parametrize("jitter", [0, 255])
def test_a_living_contact_is_asked_as_often_as_the_shipped_table_asks(
    jitter: int,
) -> None:
    law = CheckLaw(horizon_s=HORIZON_S)
    times = _shipped_checks(jitter, 40_000.0)
    spans = np.array([0.0, times[0] + 1, times[7] + 1])
    asked = law.checks(spans, np.full(3, jitter))
    assert asked.tolist() == [0, 1, 8]


def test_a_contact_that_is_dead_when_it_is_met_goes_at_once() -> None:
    law = CheckLaw(horizon_s=HORIZON_S)
    found_at = law.found_at(np.array([500.0]), np.array([400.0]), np.array([9]))
    assert found_at[0] == pytest.approx(500.0 + confirming_s())


def test_a_fixed_pause_knows_no_age() -> None:
    law = CheckLaw(horizon_s=HORIZON_S, fixed_s=1000.0)
    ends = np.array([1.0, 1001.0, 50_500.0])
    found_at = law.found_at(np.zeros(3), ends, np.full(3, 128))
    expected = np.array([1000.0, 2000.0, 51_000.0]) + confirming_s()
    assert found_at.tolist() == pytest.approx(expected.tolist())
