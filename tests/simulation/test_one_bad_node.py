"""The worst that one node can do costs others next to nothing."""

import pytest

from simulations.scenarios.one_bad_node import OneBadNodeScenario


def test_one_bad_node_costs_nobody_a_record(checked):
    checked(OneBadNodeScenario(nodes=40, seed=1, records=10, gets=10))


@pytest.mark.slow
def test_one_bad_node_costs_nobody_a_record_among_many(checked):
    checked(OneBadNodeScenario(nodes=200, seed=1, records=20, gets=50))
