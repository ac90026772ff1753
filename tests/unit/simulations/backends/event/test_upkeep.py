"""Tables keep up with nodes that come and go, by the rules that nodes ship with."""

import numpy as np
import pytest

from simulations.backends.event.loop import EventLoop
from simulations.backends.event.population import Population
from simulations.backends.event.tables import EMPTY, Living, Tables, depths_for
from simulations.backends.event.upkeep import Prefer, Upkeep, UpkeepConfig
from simulations.model.durations import HOUR_S
from simulations.model.sessions import Sessions

COUNT = 400


def _world(
    hours: float, *, prefer: Prefer = Prefer.OLD, check_s: float | None = None
) -> tuple[EventLoop, Upkeep, Population, Tables]:
    generator = np.random.Generator(np.random.PCG64(3))
    horizon_s = hours * HOUR_S
    people = Population.renewing(COUNT, horizon_s, Sessions(), generator)
    tables = Tables(people, generator, depths=depths_for(COUNT))
    loop = EventLoop()
    round_s = 30.0 if check_s is None else 90.0
    config = UpkeepConfig(
        horizon_s=horizon_s, prefer=prefer, check_s=check_s, round_s=round_s
    )
    upkeep = Upkeep(loop, people, tables, config, generator)
    upkeep.begin()
    return loop, upkeep, people, tables


def test_after_hours_every_living_node_has_a_table_of_living_and_some_dead() -> None:
    loop, upkeep, people, tables = _world(3)
    loop.run_until(3 * HOUR_S)
    alive = people.alive(loop.now)
    assert sorted(tables.owner_of[tables.owner_of != EMPTY].tolist()) == alive.tolist()
    shares = upkeep.stale_shares()
    assert 0.01 < shares.full < 0.04
    assert 0.01 < shares.other < 0.15
    assert shares.filled > 0.99 * tables.k
    for node in alive[:40].tolist():
        contacts = tables.contacts_of(node).tolist()
        assert len(set(contacts)) == len(contacts)
        assert node not in contacts


def test_the_living_are_known_without_a_look_at_all_nodes() -> None:
    loop, upkeep, people, _ = _world(2)
    loop.run_until(2 * HOUR_S)
    expected = Living(people, loop.now)
    assert upkeep.living.nodes.tolist() == expected.nodes.tolist()


def test_newcomers_are_known_to_their_neighbours() -> None:
    loop, upkeep, people, tables = _world(2)
    loop.run_until(2 * HOUR_S)
    young = [
        n for n in people.alive(loop.now).tolist() if people.starts[n] > 1.8 * HOUR_S
    ]
    for node in young:
        nearest = upkeep.living.closest(people.id_of[node], 4)[1:]
        assert any(node in tables.contacts_of(other).tolist() for other in nearest)


def test_nobody_keeps_a_dead_contact_longer_than_the_longest_pause() -> None:
    loop, _, people, tables = _world(4)
    loop.run_until(4 * HOUR_S)
    seats = np.flatnonzero(tables.owner_of != EMPTY)
    contacts = tables.contacts[seats]
    ends = people.ends[contacts[contacts != EMPTY]]
    dead = ends[ends <= loop.now]
    assert len(dead) > 0
    assert loop.now - dead.min() < 1.25 * HOUR_S + 60


def test_a_mass_failure_is_found_out_within_two_hours() -> None:
    loop, upkeep, people, _ = _world(4)
    loop.run_until(HOUR_S)
    alive = people.alive(loop.now)
    upkeep.kill(alive[::2])
    before = upkeep.stale_shares()
    assert before.full == pytest.approx(0.5, abs=0.05)
    loop.run_until(3 * HOUR_S)
    after = upkeep.stale_shares()
    assert after.full < 0.05
    assert len(people.alive(loop.now)) == len(upkeep.living.nodes)


def test_contacts_that_stay_are_less_often_dead_than_those_heard_last() -> None:
    shares = []
    for prefer in Prefer:
        loop, upkeep, _, _ = _world(12, prefer=prefer, check_s=HOUR_S)
        sampled = []
        for half_hour in range(8, 25):
            loop.run_until(half_hour * HOUR_S / 2)
            sampled.append(upkeep.stale_shares().full)
        shares.append(sum(sampled) / len(sampled))
    assert shares[0] < 0.97 * shares[1]


def test_the_same_seed_gives_the_same_digest_and_tables() -> None:
    digests = set()
    for _ in range(2):
        loop, _, _, tables = _world(1)
        loop.run_until(HOUR_S)
        digests.add((loop.digest(), tables.contacts.tobytes()))
    assert len(digests) == 1


def test_who_is_added_later_is_given_a_table_in_the_next_round() -> None:
    loop, upkeep, people, tables = _world(1)
    loop.run_until(1000.0)
    node = people.add(12345, starts=loop.now + 1)
    loop.run_until(1100.0)
    assert len(tables.contacts_of(node)) > tables.k
    assert node in upkeep.living.nodes
