"""Hops and rounds on discrete events: the shipped lookup machine, ideal tables.

Owns how a network is made for it and what its lookups tell. Refuses to know figures.
"""

from typing import Final

import numpy as np

from simulations.backends.event.lookups import Found, Memory, ShippedLookup
from simulations.backends.event.loop import EventLoop
from simulations.backends.event.network import Network
from simulations.backends.event.population import Population
from simulations.backends.event.tables import Living, Tables, depths_for
from simulations.run_context import Run
from simulations.scenario import Measured
from simulations.scenarios.hops.question import HopsFigures, Question
from simulations.scenarios.hops.ways import Ways

_LONGEST: Final = 64
"""Hops after which a greedy path is lost; each gains a bit, or it has ended before."""

_PATIENCE_S: Final = 20.0
"""Until the next lookup begins: as long as one may take that ships."""


def measure(asked: Question, run: Run) -> Measured[HopsFigures]:
    """Draw a network, follow greedy paths and run one lookup after the other in it."""
    generator = run.generator
    people = Population.steady(asked.nodes, generator)
    loop = EventLoop(run.watch)
    network = Network(loop, people, asked.law, generator)
    tables = Tables(people, generator, depths=depths_for(asked.nodes), k=asked.k)
    everybody = np.arange(asked.nodes, dtype=np.int64)
    living = Living(people, 0.0)
    tables.seat(everybody)
    tables.fill(everybody, 0.0, living)
    ways = Ways()
    # As after a few lookups: timeouts follow the round trips.
    memory = Memory(asked.nodes)
    for number in range(asked.lookups):
        start, target = run.rng.sample(range(asked.nodes), 2)
        hops = _hops(tables, people, start, target)
        if hops is None:
            ways.lost += 1
        else:
            ways.hops.append(hops)
        asker = run.rng.randrange(asked.nodes)
        key = run.rng.getrandbits(64)
        near = living.closest(key, asked.k + 1)
        true = [node for node in near if node != asker][: asked.k]
        lookup = ShippedLookup(network, tables, asker, key, _ignore, memory)
        began_s = loop.now
        lookup.start()
        loop.run_until(began_s + _PATIENCE_S)
        ways.exact.append(_note(ways, lookup, began_s, true))
        run.progress(number + 1, asked.lookups, "lookups")
    run.fold(loop.digest())
    return Measured(ways.figures(asked, run), loop.count, loop.now)


def _hops(tables: Tables, people: Population, start: int, target: int) -> int | None:
    """The hops of a message that each node hands to its contact nearest to the target.

    None where it gets stuck: a node knows nobody nearer than itself.
    """
    node, wanted = start, people.id_of[target]
    for hops in range(1, _LONGEST):
        near = tables.nearest(node, wanted, 1)
        if not near or near[0][0] >= people.id_of[node] ^ wanted:
            return None
        node = near[0][1]
        if node == target:
            return hops
    return None


def _note(ways: Ways, lookup: ShippedLookup, began_s: float, true: list[int]) -> bool:
    """Note a lookup that asked the nearest; whether it asked all of the closest."""
    steps = lookup.steps()
    nodes = [step.node for step in steps]
    if true[0] in nodes:
        ways.add(
            [step.parent for step in steps],
            [step.asked_at - began_s for step in steps],
            [step.answered_at - began_s for step in steps],
            nodes.index(true[0]),
        )
    return set(true) <= set(nodes)


def _ignore(found: Found) -> None:
    del found
