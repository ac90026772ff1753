"""Whoever asks a node often enough does not take its table over."""

from simulations.runs import run
from simulations.scenarios.eclipse import EclipseScenario

SMALL = {"nodes": 50, "minutes": 4, "near": 2, "rented": 30, "networks": 1, "reads": 10}


def test_a_flood_costs_no_contact_and_a_restart_finds_what_was_published():
    figures = run(EclipseScenario(fresh=20, **SMALL)).figures
    assert figures.kept == 1.0
    assert figures.honest_lost == 0
    assert figures.restarted_honest_share > 0.5
    assert figures.first.success == figures.latest.success == 1.0


def test_the_caps_keep_strangers_out_who_would_come_in_without():
    capped = run(EclipseScenario(fresh=20, **SMALL)).figures
    open_door = run(EclipseScenario(fresh=20, open_door=True, **SMALL)).figures
    assert 2 * capped.intruders < open_door.intruders
