"""Everybody restarts."""

import pytest

from simulations.people.crowd_rules import naive_rules, shipped_rules
from simulations.people.restart import Crowd, Restart
from simulations.run_context import Run
from tests.unit.simulations.people.test_starts import START


def _restart(rules, *, servers=10, users=500, dead=0.3, requests=250):
    crowd = Crowd(servers, users, dead, normal_per_s=0.08 * users / servers)
    costs = START.scaled(requests / START.requests)
    restart = Restart(crowd, rules, costs, Run(1))
    restart.begin()
    restart.loop.run_until(60.0)
    return restart


def test_everybody_is_back_and_no_server_above_its_cap():
    restart = _restart(shipped_rules(400))
    assert restart.alive == 7
    assert restart.reachable == 500
    assert restart.registrations_max <= 400
    assert restart.exited == 0
    probes = [restart.probe(user, user + 1) for user in range(0, 500, 50)]
    assert all(one.is_success for one in probes)


def test_alternates_take_whom_the_nearest_have_no_room_for():
    restart = _restart(shipped_rules(230))
    assert restart.refused > 0
    assert restart.registrations_max <= 230
    assert restart.reachable == 500


def test_servers_that_end_under_load_take_all_others_with_them():
    restart = _restart(naive_rules(10.0))
    assert restart.alive == 0
    assert restart.exited == 7
    assert restart.reachable == 0


def test_a_server_answers_no_more_requests_than_its_limit():
    rules = shipped_rules(10_000)._replace(requests_per_s=50.0, requests_burst=50.0)
    restart = _restart(rules, users=200, dead=0.0)
    assert restart.requests_max <= 100
    assert restart.offered_max > 100


@pytest.mark.parametrize("seed_runs", [2])
def test_the_same_seed_gives_the_same_events(seed_runs):
    digests = {
        _restart(shipped_rules(400), users=50).loop.digest() for _ in range(seed_runs)
    }
    assert len(digests) == 1
