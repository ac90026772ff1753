"""Both lookups end with the nodes that are truly nearest, dead contacts or not."""

import numpy as np
import pytest

from simulations.backends.event.lookups import (
    Found,
    Memory,
    NaiveConfig,
    NaiveLookup,
    ShippedLookup,
    wide_id,
)
from simulations.backends.event.loop import EventLoop
from simulations.backends.event.network import Network
from simulations.backends.event.population import Population
from simulations.backends.event.tables import Living, Tables, depths_for
from simulations.model.round_trips import LogNormalRoundTrips

COUNT = 1000


def _world(stale: float) -> tuple[Network, Tables]:
    generator = np.random.Generator(np.random.PCG64(11))
    people = Population.steady(COUNT, generator)
    tables = Tables(people, generator, depths=depths_for(COUNT))
    nodes = np.arange(COUNT)
    tables.seat(nodes)
    tables.fill(nodes, 0.0, Living(people, 0.0))
    for node in range(int(stale * COUNT)):
        people.end(node, 0.0)
    network = Network(EventLoop(), people, LogNormalRoundTrips(), generator)
    return network, tables


def _run(network: Network, tables: Tables, target: int, kind: str) -> Found:
    found: list[Found] = []
    lookup: NaiveLookup | ShippedLookup
    if kind == "naive":
        lookup = NaiveLookup(
            network, tables, COUNT - 1, target, found.append, NaiveConfig()
        )
    else:
        memory = Memory(COUNT)
        lookup = ShippedLookup(network, tables, COUNT - 1, target, found.append, memory)
    lookup.start()
    network.loop.run()
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("kind", ["naive", "shipped"])
@pytest.mark.parametrize("stale", [0.0, 0.3])
def test_a_lookup_ends_with_the_truly_nearest_living_nodes(
    kind: str, stale: float
) -> None:
    network, tables = _world(stale)
    living = Living(network.people, 0.0)
    exact = 0
    for number in range(20):
        target = (number * 0x0CF5AD432745937F) % (1 << 64)
        found = _run(network, tables, target, kind)
        near = [n for n in living.closest(target, 21) if n != found.asker][:20]
        exact += len(set(near) & set(found.closest))
        assert found.closest == sorted(
            found.closest, key=lambda node: network.people.id_of[node] ^ target
        )
    # Of the twenty that a reply names some are dead, and nobody names those beyond.
    assert exact >= (0.99 - stale / 3) * 400


def test_a_naive_lookup_waits_the_whole_patience_for_the_dead() -> None:
    network, tables = _world(0.3)
    took_s = [_run(network, tables, t << 48, "naive").took_s for t in range(10)]
    assert min(took_s) >= 2.0


def test_the_shipped_lookup_does_not_wait_for_the_dead() -> None:
    network, tables = _world(0.3)
    took_s = [_run(network, tables, t << 48, "shipped").took_s for t in range(10)]
    assert np.median(took_s) < 2.0


def test_requests_that_answers_have_timed_turn_slow_as_the_shipped_ones_do() -> None:
    memory = Memory(COUNT)
    assert memory.timeout_s() == 0.5
    for _ in range(50):
        memory.round_trips.add(0.1)
    assert memory.timeout_s() == pytest.approx(0.1, rel=0.01)
    assert memory.given_up_s(0.5) == 1.5
    assert memory.given_up_s(0.1) == 0.5


def test_an_id_keeps_its_order_when_it_is_widened() -> None:
    assert wide_id(1) < wide_id(2) < wide_id(1 << 63)
    assert len(wide_id(0)) == 20
