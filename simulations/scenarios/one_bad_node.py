"""What does the worst that one node can do cost everybody else?

The best-known nodes turn bad, one for each kind of lie; the earlier ones stay bad, so
that the last figure is for as many bad nodes as there are lies.
"""

from collections import Counter
from typing import Annotated, ClassVar, Final

import msgspec

from opnode.testing.adversaries import Gang, Lie
from opnode.testing.dht_nodes import DhtNetwork, DhtNode
from simulations.backends.real import DhtScenario
from simulations.reads import Reads, draft, publish, read_latest, read_many, read_newest
from simulations.run_context import Run
from simulations.scenario import Figures, parameter

_SUCCESS: Final = 0.99


class LieCost(msgspec.Struct, frozen=True, kw_only=True):
    """What others got after one more node began to lie."""

    lie: str
    known_to: int
    newest: Reads
    latest: Reads


class OneBadNodeFigures(Figures, frozen=True, kw_only=True):
    """One figure for each lie, in the order of turning."""

    worst_success: float
    costs: tuple[LieCost, ...]


class OneBadNodeScenario(DhtScenario[OneBadNodeFigures], frozen=True, kw_only=True):
    """``gets``: reads of either kind for each lie."""

    name: ClassVar[str] = "one-bad-node"
    question: ClassVar[str] = (
        "What does the worst that one node can do cost the others?"
    )
    expected: ClassVar[str] = "At most 1 % of the reads, whatever it does."

    records: Annotated[int, parameter("Records put before", low=1, high=100_000)] = 50
    gets: Annotated[int, parameter("Reads of either kind for each lie", low=1)] = 100

    async def measure(self, network: DhtNetwork, run: Run) -> OneBadNodeFigures:
        """Publish, turn one, put the next version, read; again for every lie."""
        lies = list(Lie)
        labels = [f"owner {n}" for n in range(self.records)]
        publications = [draft(network, label, len(lies) + 1) for label in labels]
        await publish(network, network.nodes, publications, 0)
        gang = Gang(network, network.nursery, network.rng)
        gang.seen.update((p.key, p.versions[0].wire) for p in publications)
        honest = list(network.nodes)
        costs = []
        for number, (lie, (bad, known_to)) in enumerate(
            zip(lies, _best_known(network), strict=False), start=1
        ):
            run.progress(number - 1, len(lies), "lies")
            gang.turn(bad, lie)
            honest.remove(bad)
            await publish(network, honest, publications, number)
            now = [p.up_to(number) for p in publications]
            newest = await read_many(network, honest, now, read_newest, self.gets)
            latest = await read_many(network, honest, now, read_latest, self.gets)
            costs.append(
                LieCost(lie=lie.value, known_to=known_to, newest=newest, latest=latest)
            )
        worst = min(min(c.newest.success, c.latest.success) for c in costs)
        believed = sum(
            c.latest.older + c.newest.forged + c.latest.forged for c in costs
        )
        return OneBadNodeFigures(
            met=worst >= _SUCCESS and not believed,
            worst_success=worst,
            costs=tuple(costs),
        )


def _best_known(network: DhtNetwork) -> list[tuple[DhtNode, int]]:
    """The nodes, those in most tables first, and in how many they are."""
    known = Counter(
        contact.node_id for node in network.nodes for contact in node.dht.contacts()
    )
    ranked = sorted(network.nodes, key=lambda node: -known[node.rpc.node_id])
    return [(node, known[node.rpc.node_id]) for node in ranked]
