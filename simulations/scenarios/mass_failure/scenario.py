"""What is still found when half of the nodes die at one instant, and how fast it heals.

The dead say nothing and stay in everybody's tables until their silence is noticed.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Final

import trio

from opnode.core.errors import ConfigError
from opnode.core.ids import distance
from opnode.testing.dht_nodes import DhtNetwork, DhtNode
from opnode.testing.virtual_network import Link
from simulations.backends.real import DhtScenario
from simulations.model.durations import LATENCY_S
from simulations.reads import Publication, draft, publish, read_first, read_many
from simulations.run_context import Run
from simulations.scenario import Backend, Measured, parameter
from simulations.scenarios.mass_failure import on_event
from simulations.scenarios.mass_failure.question import (
    REFRESH_S,
    SETTLE_S,
    Aftermath,
    K,
    MassFailureFigures,
    Question,
    cells_of,
    figures_of,
)

_MOST_REAL: Final = 20_000


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
    backends: ClassVar[tuple[Backend, ...]] = (Backend.REAL, Backend.EVENT)
    maintained: ClassVar[bool] = True
    link: ClassVar[Link] = Link(latency_s=LATENCY_S, grain_s=0.01)

    nodes: Annotated[int, parameter("Nodes of the DHT", low=5, high=1_000_000)] = 100
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

    def check(self) -> None:
        """See `Scenario.check`."""
        if self.backend is Backend.REAL and self.nodes > _MOST_REAL:
            raise ConfigError(
                "nodes", str(self.nodes), f"at most {_MOST_REAL} on the real backend"
            )
        if self.backend is Backend.EVENT and self.public:
            raise ConfigError("public", "True", "addresses, so the real backend")

    def perform(self, run: Run) -> Measured[MassFailureFigures]:
        """See `Scenario.perform`."""
        if self.backend is Backend.REAL:
            return super().perform(run)
        question = Question(
            nodes=self.nodes,
            dead=self.dead,
            records=self.records,
            gets=self.gets or self.records,
            periods=self.periods,
        )
        return on_event.measure(question, run)

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
        await trio.sleep(SETTLE_S)
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
            await trio.sleep_until(failed_at + period * REFRESH_S)
            run.progress(period, self.periods, "hours")
            seen = await _look(network, living, publications, period, gets)
            run.row("healing", **cells_of(seen))
            after.append(seen)
        sent = network.network.statistics().sent - sent
        lasted_s = trio.current_time() - failed_at
        return figures_of(
            before,
            after,
            dead=self.dead,
            died=len(dead),
            lost=sum(
                not _holders(network, living, p) for read in moments[1:] for p in read
            ),
            datagrams_per_node_s=sent / len(living) / lasted_s,
        )


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
    nearest = sorted(living, key=lambda node: distance(node.rpc.node_id, key))[:K]
    return _holders(network, nearest, publication) / len(nearest)
