"""What is still found when half of the nodes die at one instant, and how fast it heals.

The dead say nothing and stay in everybody's tables until their silence is noticed.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Final

import msgspec
import trio

from opnode.core.ids import distance
from opnode.drivers.dht.config import DhtConfig
from opnode.testing.dht_nodes import DhtNetwork, DhtNode
from opnode.testing.virtual_network import Link
from simulations.backends.real import LATENCY_S, DhtScenario
from simulations.reads import Publication, Reads, draft, publish, read_first, read_many
from simulations.run_context import Run
from simulations.scenario import Figures, parameter

_K: Final = 20
_REFRESH_S: Final = DhtConfig().refresh_s
_SETTLE_S: Final = 3600.0
"""Nodes that know each other for an hour: nobody is a newcomer any more."""
_AT_ONCE: Final = 0.95
_HEALED: Final = 0.99
_HALF: Final = 0.5
"""The bars hold for up to so many dead; beyond, the figures alone tell."""


class Aftermath(msgspec.Struct, frozen=True, kw_only=True):
    """The network so many refresh periods after the failure.

    Attributes:
        stale_rate: contacts in the tables of the living that are dead.
        holders_min, holders_mean: living holders of a record.
        closest_rate: of the k living nodes nearest to a record those that hold it.
        first: reads of records that nobody read since the failure.
    """

    periods: int
    stale_rate: float
    holders_min: int
    holders_mean: float
    closest_rate: float
    first: Reads


class MassFailureFigures(Figures, frozen=True, kw_only=True):
    """Before, at once, and after each period.

    Attributes:
        died: nodes that did.
        lost: records of which every holder died.
        success_at_once, success_healed: of reads right after the failure, and one
            refresh period later.
        p99_s_before, p99_s_at_once, p99_s_healed: how long reads took.
        datagrams_per_node_s: sent by a living node since, on average.
    """

    died: int
    lost: int
    success_at_once: float
    success_healed: float
    p99_s_before: float
    p99_s_at_once: float
    p99_s_healed: float
    datagrams_per_node_s: float
    after: tuple[Aftermath, ...]


class MassFailureScenario(DhtScenario[MassFailureFigures], frozen=True, kw_only=True):
    """Every moment has records of its own, as reading repairs.

    A period is an hour, the pause between two refreshes of a bucket.
    """

    name: ClassVar[str] = "mass-failure"
    question: ClassVar[str] = (
        "What is found when half of the nodes die at once, and when is it healed?"
    )
    expected: ClassVar[str] = (
        "At once all but the records whose 20 holders all died, 0.5^20 of them; slower,"
        " as the dead are asked in vain. After two hours as before."
    )
    maintained: ClassVar[bool] = True
    link: ClassVar[Link] = Link(latency_s=LATENCY_S, grain_s=0.01)

    nodes: Annotated[int, parameter("Nodes of the DHT", low=5, high=20_000)] = 100
    dead: Annotated[
        float,
        parameter("Nodes that die", unit="share", low=0, high=0.95, drawn="each alike"),
    ] = 0.5
    records: Annotated[
        int, parameter("Records for each moment of reading", low=1, high=100_000)
    ] = 50
    gets: Annotated[
        int, parameter("Reads at each moment; 0: each record once", low=0)
    ] = 0
    periods: Annotated[
        int, parameter("Hours that are watched", unit="h", low=0, high=1000)
    ] = 2

    async def measure(
        self,
        network: DhtNetwork,
        run: Run,
    ) -> MassFailureFigures:
        """Put, settle, kill, read at once and after every period."""
        moments = [
            [draft(network, f"owner {moment} {n}") for n in range(self.records)]
            for moment in range(self.periods + 2)
        ]
        for publications in moments:
            await publish(network, network.nodes, publications)
        await trio.sleep(_SETTLE_S)
        gets = self.gets or self.records
        everybody = network.nodes
        before = await read_many(network, everybody, moments[0], read_first, gets)
        dead = network.rng.sample(everybody, int(self.dead * self.nodes))
        for node in dead:
            network.kill(node)
        gone = set(dead)
        living = [node for node in everybody if node not in gone]
        failed_at, sent = trio.current_time(), network.network.statistics().sent
        after = []
        for period, publications in enumerate(moments[1:]):
            await trio.sleep_until(failed_at + period * _REFRESH_S)
            run.progress(period, self.periods, "hours")
            seen = await _look(network, living, publications, period, gets)
            run.row("healing", **_cells(seen))
            after.append(seen)
        sent = network.network.statistics().sent - sent
        lasted_s = trio.current_time() - failed_at
        at_once, healed = after[0].first, after[min(1, self.periods)].first
        return MassFailureFigures(
            met=self._is_met(at_once, healed),
            died=len(dead),
            lost=sum(
                not _holders(network, living, p) for read in moments[1:] for p in read
            ),
            success_at_once=at_once.success,
            success_healed=healed.success,
            p99_s_before=before.s_p99,
            p99_s_at_once=at_once.s_p99,
            p99_s_healed=healed.s_p99,
            datagrams_per_node_s=sent / len(living) / lasted_s,
            after=tuple(after),
        )

    def _is_met(self, at_once: Reads, healed: Reads) -> bool:
        if at_once.forged or healed.forged:
            return False
        if self.dead > _HALF:
            return True
        return at_once.success >= _AT_ONCE and healed.success >= _HEALED


def _cells(seen: Aftermath) -> dict[str, float]:
    return {
        "t_h": float(seen.periods),
        "stale_rate": seen.stale_rate,
        "holders_mean": seen.holders_mean,
        "closest_rate": seen.closest_rate,
        "success": seen.first.success,
        "read_s_median": seen.first.s_median,
        "read_s_p99": seen.first.s_p99,
    }


async def _look(
    network: DhtNetwork,
    living: Sequence[DhtNode],
    publications: Sequence[Publication],
    period: int,
    gets: int,
) -> Aftermath:
    """Count before reading, as reading repairs."""
    ids = {node.rpc.node_id for node in living}
    known = [c.node_id for node in living for c in node.dht.contacts()]
    held = [_holders(network, living, p) for p in publications]
    close = [_closest_holding(network, living, p) for p in publications]
    return Aftermath(
        periods=period,
        stale_rate=sum(node_id not in ids for node_id in known) / max(1, len(known)),
        holders_min=min(held),
        holders_mean=sum(held) / len(held),
        closest_rate=sum(close) / len(close),
        first=await read_many(network, living, publications, read_first, gets),
    )


def _holders(
    network: DhtNetwork, living: Sequence[DhtNode], publication: Publication
) -> int:
    now = network.wall_clock()
    return sum(bool(node.store.records(publication.key, now)) for node in living)


def _closest_holding(
    network: DhtNetwork, living: Sequence[DhtNode], publication: Publication
) -> float:
    key = publication.key
    nearest = sorted(living, key=lambda node: distance(node.rpc.node_id, key))[:_K]
    return _holders(network, nearest, publication) / len(nearest)
