"""Ids ground next to a key hide nothing that is published there."""

import pytest

from simulations.scenario import Backend
from simulations.scenarios.sybil.scenario import SybilScenario


def test_active_sybils_at_addresses_of_their_own_hide_no_record(checked):
    checked(
        SybilScenario(nodes=80, seed=1, public=True, active=True, keys=1, askers=10)
    )


@pytest.mark.slow
@pytest.mark.parametrize(("sybils", "active"), [(50, False), (100, True)])
def test_sybils_hide_no_record_among_many_nodes(checked, sybils, active):
    checked(
        SybilScenario(
            nodes=200, seed=1, public=True, active=active, sybils=sybils, keys=1
        )
    )


@pytest.mark.parametrize("active", [False, True])
def test_sybils_hide_no_record_among_ten_thousand(checked, active):
    checked(
        SybilScenario(
            backend=Backend.EVENT, nodes=10_000, sybils=50, active=active, askers=10
        )
    )


def test_a_drill_repeats_itself(checked):
    scenario = SybilScenario(backend=Backend.EVENT, nodes=2000, askers=5, keys=1)
    assert checked(scenario).digest == checked(scenario).digest
