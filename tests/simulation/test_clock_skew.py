"""Wrong clocks cost those who have them, and nobody else."""

import pytest

from simulations.runs import run
from simulations.scenarios.clock_skew import Clock, ClockSkewScenario

SMALL = {"nodes": 30, "writers": 3, "readers": 1}


def cells(scenario):
    outcome = run(scenario)
    assert outcome.figures.met, f"{outcome.command}: {outcome.figures}"
    return {(cell.writer, cell.reader): cell for cell in outcome.figures.cells}


def test_ten_minutes_hide_nothing_but_from_opposite_clocks():
    found = cells(ClockSkewScenario(**SMALL, skew_s=600))
    opposite = found.pop((Clock.BEHIND, Clock.AHEAD))
    assert all(cell.presences == cell.files == 1.0 for cell in found.values())
    assert opposite.presences == 0.0


@pytest.mark.slow
def test_a_presence_lasts_as_long_as_its_writer_is_ahead():
    found = cells(ClockSkewScenario(**SMALL, skew_s=3600))
    assert found[Clock.AHEAD, Clock.RIGHT].overdue == 1.0
    assert found[Clock.BEHIND, Clock.RIGHT].presences == 0.0


@pytest.mark.slow
def test_a_peer_file_from_two_days_ahead_is_refused_by_right_clocks():
    found = cells(ClockSkewScenario(**SMALL, skew_s=2 * 86_400))
    assert found[Clock.AHEAD, Clock.RIGHT].files == 0.0
    assert found[Clock.BEHIND, Clock.RIGHT].files == 1.0


def test_whoever_sets_its_clock_right_and_starts_anew_is_found_at_once():
    found = cells(ClockSkewScenario(**SMALL, skew_s=7200))
    assert found[Clock.AHEAD, Clock.RIGHT].returned == 1.0
    assert found[Clock.BEHIND, Clock.RIGHT].returned == 1.0
