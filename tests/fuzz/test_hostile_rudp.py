"""A short run of the hostile packets that ``hostile_rudp`` sends by the million."""

import random

import pytest

from tests.fuzz.hostile_rudp import (
    Victim,
    attack_by_the_peer,
    attack_from_the_network,
)


@pytest.mark.parametrize("seed", range(2))
def test_r_38_a_network_that_tampers_with_packets_only_costs_time(seed):
    tally = attack_from_the_network(3000, seed)
    assert tally.hostile >= 3000
    assert tally.bytes_delivered > 100_000


@pytest.mark.parametrize("seed", range(2))
def test_r_38_a_peer_may_seal_anything_and_costs_no_more_than_is_configured(seed):
    tally = attack_by_the_peer(6000, seed)
    assert tally.hostile >= 3000
    assert tally.closed_by_attack > 0


def test_a_tame_peer_attacker_gets_deep_into_its_victim():
    victim = Victim(random.Random(1), wildness=0.0)
    victim.suffer(300)
    assert victim.closed is None
    assert victim.far.connection.statistics().packets_received >= 300
