"""Everybody asks for one identity at once: all are answered, and the load is known."""

from simulations.runs import run
from simulations.scenarios.flash_crowd import FlashCrowdScenario

SMALL = {"nodes": 30, "crowd": 20, "within_s": 2.0}


def test_a_crowd_is_answered_and_its_second_wave_costs_as_much_as_the_first(checked):
    figures = checked(FlashCrowdScenario(**SMALL)).figures
    first, second = figures.waves
    assert figures.holders_after == figures.holders_before
    # Nobody keeps copies on the way, so nothing gets cheaper.
    assert 0.7 < second.requests_per_read / first.requests_per_read < 1.3


def test_whoever_stops_at_the_first_answer_asks_a_few_nodes_only():
    hasty, shipped = (
        run(FlashCrowdScenario(**SMALL, waves=1, hasty=hasty)).figures.waves[0]
        for hasty in (True, False)
    )
    assert hasty.reads.success == shipped.reads.success == 1.0
    assert hasty.requests_per_read < shipped.requests_per_read / 2


def test_the_busiest_second_of_a_crowd_of_holders_is_counted():
    wave = run(FlashCrowdScenario(**SMALL, waves=1)).figures.waves[0]
    assert 1 <= wave.busiest_per_s <= wave.requests
    assert wave.busiest_share <= wave.holders_share <= 1.0
