"""Firewalled users are reached in a ring only at a price that leaves do not pay."""

import math

import pytest

from opnode.core.errors import ConfigError
from simulations.scenarios.chord.bindings import Reach
from simulations.scenarios.chord.scenario import ChordScenario

SMALL = {"users": 120, "hours": 0.25, "warm_up_h": 0.25, "calls_per_h": 8.0}


def test_a_member_of_a_ring_keeps_more_bindings_and_sends_more_than_a_leaf(checked):
    figures = checked(ChordScenario(**SMALL)).figures
    assert figures.chatter_ratio > 2
    assert figures.ring.bindings_median > 2 * figures.ours.bindings_median


def test_a_ring_of_open_users_under_churn_answers_every_call(checked):
    figures = checked(ChordScenario(firewalled=0.0, **SMALL)).figures
    assert figures.ring.calls_failed == 0
    assert figures.ring_right > 0.99
    assert figures.hops_mean <= math.log2(120)


def test_a_ring_without_relays_breaks_where_nats_allow_no_direct_path(checked):
    figures = checked(ChordScenario(reach=Reach.BARE, firewalled=0.9, **SMALL)).figures
    assert figures.ring.calls_failed > 0.02
    assert figures.ring_right < 0.95


def test_a_full_home_costs_the_ring_calls(checked):
    figures = checked(ChordScenario(home=6, places=64, firewalled=0.8, **SMALL)).figures
    assert figures.ring.refused > 0
    assert figures.ring.bindings_max == 64
    assert figures.ring.calls_failed > figures.ours.calls_failed


def test_a_run_repeats_itself(checked):
    scenario = ChordScenario(reach=Reach.RELAYED, **SMALL)
    first, second = checked(scenario), checked(scenario)
    assert first.digest == second.digest
    assert first.figures == second.figures


def test_users_without_open_ones_among_them_are_refused():
    with pytest.raises(ConfigError, match="open homes"):
        ChordScenario(users=20, firewalled=0.95).check()
