"""Are stored records always found, and how long does a lookup take?

Nodes join one by one, each through a random earlier one, and the askers run as many
lookups as anybody does in the first hour. Peer files are put by random nodes, then some
nodes may die at once, then the askers read. The closest sets that lookups end with are
compared with the true ones.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Final

import trio

from opnode.testing.dht_nodes import DhtNetwork, DhtNode
from opnode.testing.virtual_network import Link
from simulations.backends.real import DhtScenario
from simulations.model.durations import LATENCY_S
from simulations.quantiles import quantile
from simulations.reads import (
    Publication,
    Reads,
    draft,
    publish,
    read_first,
    read_many,
    settle,
)
from simulations.run_context import Run
from simulations.scenario import Figures, parameter

_K: Final = 20
_MAX_CLOSEST: Final = 50
"""Closest sets compared in a run: they cost a lookup each."""
_SUCCESS_ALL: Final = 1.0
_SUCCESS_HALF_DEAD: Final = 0.99
_HALF: Final = 0.5


class LookupFigures(Figures, frozen=True, kw_only=True):
    """All times are virtual seconds."""

    first: Reads
    closest_exact_rate: float
    closest_s_median: float
    table_min: int
    table_mean: float
    join_datagrams_per_node: float


class LookupScenario(DhtScenario[LookupFigures], frozen=True, kw_only=True):
    """``dead``: share of the nodes that die after the puts, none of the ``askers``.

    ``gets``: how many reads; each record once if 0.
    """

    name: ClassVar[str] = "lookup"
    question: ClassVar[str] = (
        "Are stored records always found, and how soon, also with many nodes dead?"
    )
    expected: ClassVar[str] = (
        "All of them, also with a fifth of the nodes dead; 99 % with half of them dead."
    )

    loss: Annotated[
        float,
        parameter(
            "Datagrams lost after the puts",
            unit="share",
            low=0,
            high=1,
            drawn="each alike",
        ),
    ] = 0.0
    dead: Annotated[
        float,
        parameter(
            "Nodes that die after the puts, no asker among them",
            unit="share",
            low=0,
            high=0.95,
        ),
    ] = 0.0
    records: Annotated[int, parameter("Records put before", low=1, high=100_000)] = 50
    gets: Annotated[int, parameter("Reads; 0: each record once", low=0)] = 0
    askers: Annotated[int, parameter("Nodes that read", low=1)] = 50

    async def measure(self, network: DhtNetwork, run: Run) -> LookupFigures:
        """Put, kill, read, compare."""
        joined = network.network.statistics().sent
        tables = [len(node.dht.contacts()) for node in network.nodes]
        nodes = network.rng.sample(network.nodes, self.nodes)
        askers, others = nodes[: self.askers], nodes[self.askers :]
        await settle(network, askers)
        publications = [draft(network, f"owner {n}") for n in range(self.records)]
        await publish(network, nodes, publications)
        dead = others[: int(self.dead * self.nodes)]
        for node in dead:
            network.kill(node)
        network.network.link = Link(latency_s=LATENCY_S, loss=self.loss)
        run.progress(1, 2, "stages")
        gets = self.gets or self.records
        first = await read_many(network, askers, publications, read_first, gets)
        some = publications[:_MAX_CLOSEST]
        exact, closest_s = await _closest(network, askers, dead, some)
        bar = _SUCCESS_HALF_DEAD if self.dead >= _HALF else _SUCCESS_ALL
        return LookupFigures(
            met=first.success >= bar and not first.forged,
            first=first,
            closest_exact_rate=exact,
            closest_s_median=closest_s,
            table_min=min(tables),
            table_mean=sum(tables) / len(tables),
            join_datagrams_per_node=joined / self.nodes,
        )


async def _closest(
    network: DhtNetwork,
    askers: Sequence[DhtNode],
    dead: Sequence[DhtNode],
    publications: Sequence[Publication],
) -> tuple[float, float]:
    """The share of the true closest nodes that lookups end with; their median time."""
    gone = {node.rpc.node_id for node in dead}
    seconds = []
    exact = wanted = 0
    for publication in publications:
        asker = network.rng.choice(askers)
        started_at = trio.current_time()
        found = await asker.dht.closest_nodes(publication.key)
        seconds.append(trio.current_time() - started_at)
        near = network.true_closest(publication.key, _K + len(gone), asker)
        true = [node_id for node_id in near if node_id not in gone][:_K]
        exact += len({contact.node_id for contact in found}.intersection(true))
        wanted += len(true)
    return exact / max(1, wanted), quantile(seconds, 0.5)
