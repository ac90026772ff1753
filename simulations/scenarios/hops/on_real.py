"""Hops and rounds of the shipped node: its tables, its lookups, its datagrams.

Owns how a network is made for it and what its lookups tell. Refuses to know figures.
"""

import math
from typing import Final

import trio

from opnode.core.ids import NodeId, distance
from opnode.drivers.dht.config import DhtConfig
from opnode.drivers.dht.dht import Dht
from opnode.protocols.lookup.config import LookupConfig
from opnode.protocols.lookup.trace import LookupTrace
from opnode.testing.clock import run_deterministic
from opnode.testing.dht_nodes import DhtNetwork, DhtNode
from opnode.testing.seeded_secrets import seeded_secrets
from opnode.testing.virtual_network import Link
from simulations.model.durations import LATENCY_S
from simulations.run_context import Run
from simulations.scenario import Measured
from simulations.scenarios.hops.question import HopsFigures, Question
from simulations.scenarios.hops.ways import Ways

_PAUSE_S: Final = 5.0
_LONGEST: Final = 64
"""Hops after which a greedy path is lost; each gains a bit, or it has ended before."""


def measure(asked: Question, run: Run) -> Measured[HopsFigures]:
    """Make a network, follow greedy paths and run lookups in it.

    Args:
        asked: its law of round trips is the link's.
        run: its seed decides everything.
    """
    with seeded_secrets(run.seed):
        return run_deterministic(_live, run.seed, asked, run)


async def _live(asked: Question, run: Run) -> Measured[HopsFigures]:
    config = DhtConfig(lookup=LookupConfig(alpha=asked.alpha))
    async with trio.open_nursery() as nursery:
        network = DhtNetwork(nursery, run.seed, Link(latency_s=LATENCY_S))
        try:
            for made in range(asked.nodes):
                if asked.settled:
                    await network.add(dht_config=config)
                else:
                    await network.grow(1, pause_s=_PAUSE_S, dht_config=config)
                run.progress(made + 1, asked.nodes, "nodes")
            if asked.settled:
                network.acquaint(asked.k)
            figures = await _measure(asked, run, network)
        finally:
            network.close()
        nursery.cancel_scope.cancel()
    run.fold(bytes.fromhex(network.network.trace_digest()))
    sent = network.network.statistics().sent
    return Measured(figures, sent, trio.current_time())


async def _measure(asked: Question, run: Run, network: DhtNetwork) -> HopsFigures:
    ways = Ways()
    by_id = {node.rpc.node_id: node for node in network.nodes}
    for number in range(asked.lookups):
        start, target = run.rng.sample(network.nodes, 2)
        hops = _hops(by_id, start, target.rpc.node_id)
        if hops is None:
            ways.lost += 1
        else:
            ways.hops.append(hops)
        asker = run.rng.choice(network.nodes)
        key = run.rng.randbytes(20)
        true = network.true_closest(key, asked.k, asker)
        trace = await asker.dht.trace_nodes(key)
        ways.exact.append(_note(ways, trace, true))
        run.progress(number + 1, asked.lookups, "lookups")
    return ways.figures(asked, run)


def _hops(by_id: dict[NodeId, DhtNode], start: DhtNode, target: NodeId) -> int | None:
    """The hops of a message that each node hands to its contact nearest to the target.

    None where it gets stuck: a node knows nobody nearer than itself.
    """
    node = start
    for hops in range(1, _LONGEST):
        nearest = _nearest(node.dht, target)
        if nearest == target:
            return hops
        own = distance(node.rpc.node_id, target)
        if nearest is None or distance(nearest, target) >= own:
            return None
        node = by_id[nearest]
    return None


def _nearest(dht: Dht, target: NodeId) -> NodeId | None:
    away = {distance(c.node_id, target): c.node_id for c in dht.contacts()}
    return away[min(away)] if away else None


def _note(ways: Ways, trace: LookupTrace, true: list[NodeId]) -> bool:
    """Note a lookup that asked the nearest; whether it asked all of the closest."""
    ids = [step.contact.node_id for step in trace.steps]
    if true[0] in ids:
        ways.add(
            [step.parent for step in trace.steps],
            [step.asked_at_s for step in trace.steps],
            [
                step.asked_at_s + (step.rtt_s if step.rtt_s is not None else math.inf)
                for step in trace.steps
            ],
            ids.index(true[0]),
        )
    return set(true) <= set(ids)
