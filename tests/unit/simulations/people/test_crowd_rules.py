"""The shipped rules and none."""

import random

import pytest

from opnode.node.presence.presence import RETRY_CAP_S, RETRY_S
from simulations.people.crowd_rules import naive_rules, shipped_rules


def test_shipped_pauses_are_drawn_and_grow_to_their_cap():
    rules, rng = shipped_rules(100), random.Random(1)
    early = [rules.pause_s(0, rng) for _ in range(100)]
    late = [rules.pause_s(9, rng) for _ in range(100)]
    assert len(set(early)) == 100
    assert max(early) <= RETRY_S
    assert 10 < max(late) <= RETRY_CAP_S


def test_naive_pauses_are_all_the_same():
    rules, rng = naive_rules(10.0), random.Random(1)
    assert {rules.pause_s(count, rng) for count in range(10)} == {RETRY_S}


@pytest.mark.parametrize("cap", [1, 500])
def test_the_cap_is_the_desks(cap):
    assert shipped_rules(cap).introducer.max_registrations == cap
