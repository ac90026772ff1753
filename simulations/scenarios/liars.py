"""Are records found while a share of the nodes lies, and is a lie ever believed?

All nodes join honestly and the first version of every record is stored. Then the liars
turn, at once, knowing all first versions. Honest nodes put the second version, through
the liars, and read it: as the newest of the whole region, as the first that verifies,
and as the first that is new enough for a reader who knows of the change.
"""

from typing import ClassVar, Final

import trio

from opnode.testing.adversaries import Gang, Lie, choose_liars
from opnode.testing.dht_nodes import DhtNetwork
from simulations.reads import (
    Reads,
    draft,
    publish,
    read_first,
    read_latest,
    read_many,
    read_newest,
)
from simulations.runs import Figures, Scenario

MIXED: Final = "mixed"
_SUCCESS_THIRD: Final = 0.99
_SUCCESS_HALF: Final = 0.95
_HALF: Final = 0.5


class LiarsFigures(Figures, frozen=True, kw_only=True):
    """What honest readers got.

    Attributes:
        put: share of the second versions that at least one node acknowledged.
        first: first reads; any version of the owner's may end one.
        newest: first reads by readers who know of the change.
        latest: reads of the whole region.
    """

    put: float
    first: Reads
    newest: Reads
    latest: Reads


class LiarsScenario(Scenario[LiarsFigures], frozen=True, kw_only=True):
    """``lie`` is one of ``adversaries.Lie`` or all of them, mixed."""

    name: ClassVar[str] = "liars"

    share: float = 0.3
    lie: str = MIXED
    records: int = 50
    gets: int = 0

    async def measure(self, network: DhtNetwork, nursery: trio.Nursery) -> LiarsFigures:
        """Put, turn, put again, read."""
        publications = [draft(network, f"owner {n}", 2) for n in range(self.records)]
        await publish(network, network.nodes, publications, 0)
        gang = Gang(network, nursery, network.rng)
        gang.seen.update((p.key, p.versions[0].wire) for p in publications)
        lies = list(Lie) if self.lie == MIXED else [Lie(self.lie)]
        honest = choose_liars(network, self.share, lies, gang)
        put = await publish(network, honest, publications, 1)
        gets = self.gets or self.records
        first, newest, latest = [
            await read_many(network, honest, publications, read, gets)
            for read in (read_first, read_newest, read_latest)
        ]
        bar = _SUCCESS_HALF if self.share >= _HALF else _SUCCESS_THIRD
        forged = first.forged + newest.forged + latest.forged
        older = newest.older + latest.older
        return LiarsFigures(
            met=min(newest.success, latest.success) >= bar and not forged + older,
            put=put / self.records,
            first=first,
            newest=newest,
            latest=latest,
        )
