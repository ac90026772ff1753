"""A flood of ids pushes nobody out and fills no memory."""

import pytest

from simulations.scenarios.flood import FloodScenario


@pytest.mark.parametrize("public", [False, True])
def test_a_flood_of_ids_evicts_nobody(checked, public):
    checked(FloodScenario(nodes=12, seed=1, ids=200, public=public))


@pytest.mark.slow
def test_a_long_flood_of_ids_evicts_nobody_and_fills_no_memory(checked):
    checked(FloodScenario(nodes=30, seed=1, ids=5000, public=True))
