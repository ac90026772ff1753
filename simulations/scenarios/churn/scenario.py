"""Do records outlive their holders, and what does a table know of who is gone?

Sessions are as long as measured in the field: Weibull, shape 0.608, scale 3.66 hours.
Whoever leaves does so without a word and a newcomer takes its place. On `real`, owners
put their records once and are gone at once. On `event`, the tables of many more nodes
are followed, without records (`simulations.scenarios.churn.on_event`).
"""

import heapq
import itertools
import math
from pathlib import Path
from typing import Annotated, ClassVar, Final

import trio

from opnode.core.errors import ConfigError
from opnode.testing.dht_nodes import DhtNetwork, DhtNode
from opnode.testing.virtual_network import Link
from simulations.backends.event.upkeep import Prefer
from simulations.backends.real import DhtScenario
from simulations.model.durations import HOUR_S, LATENCY_S
from simulations.model.sessions import Sessions
from simulations.reads import Publication, Reads, draft, publish, read_first, read_many
from simulations.run_context import Run
from simulations.scenario import Backend, Measured, parameter
from simulations.scenarios.churn import on_event
from simulations.scenarios.churn.on_event import Asked, ChurnFigures

_SESSIONS: Final = Sessions()
_OWNERS: Final = 20
"""Leaves that put the records; no node's quota for one network is near."""
_MAX_REAL: Final = 20_000
_OF_EVENT: Final = {"sessions": "", "prefer": Prefer.OLD, "check_s": 0.0}
_THROUGH: Final = 3
"""Nodes that a newcomer knows of."""


class RecordsFigures(ChurnFigures, frozen=True, kw_only=True):
    """What was left at the end on `real`.

    Attributes:
        lost: records that no live node holds.
        holders_min, holders_mean: live holders of a record.
        datagrams_per_node_s: sent by a node, all causes, on average.
    """

    lost: int
    holders_min: int
    holders_mean: float
    datagrams_per_node_s: float
    first: Reads


class ChurnScenario(DhtScenario[ChurnFigures], frozen=True, kw_only=True):
    """``hours``: of virtual time, on `real` after the puts."""

    name: ClassVar[str] = "churn"
    question: ClassVar[str] = (
        "Do records outlive their holders, and how many contacts of a table are dead?"
    )
    expected: ClassVar[str] = (
        "No record is lost (real). At most 4 % of the contacts in full buckets are dead"
        " and 15 % in others; the longer up, the likelier another hour (event)."
    )
    backends: ClassVar[tuple[Backend, ...]] = (Backend.REAL, Backend.EVENT)
    maintained: ClassVar[bool] = True
    link: ClassVar[Link] = Link(latency_s=LATENCY_S, grain_s=0.02)

    nodes: Annotated[int, parameter("Nodes at any time", low=1, high=1_000_000)] = 50
    hours: Annotated[
        float,
        parameter(
            "Time after the puts",
            unit="h",
            low=0,
            high=10_000,
            drawn="sessions: Weibull, shape 0.608, scale 3.66 h",
        ),
    ] = 2.0
    records: Annotated[int, parameter("Records put before", low=1, high=100_000)] = 100
    gets: Annotated[int, parameter("Reads at the end; 0: each record once", low=0)] = 0

    sessions: Annotated[
        str,
        parameter("CSV file of start,end in seconds, in place of drawn ones (event)"),
    ] = ""
    prefer: Annotated[
        Prefer, parameter("Who keeps the place in a full bucket (event)")
    ] = Prefer.OLD
    check_s: Annotated[
        float,
        parameter(
            "Pause between two checks of a contact; 0: the shipped ones, which grow"
            " with its age (event)",
            unit="s",
            low=0,
            high=86_400,
        ),
    ] = 0.0

    def check(self) -> None:
        """See `Scenario.check`."""
        if self.backend is Backend.EVENT:
            return
        for name, default in _OF_EVENT.items():
            if (value := getattr(self, name)) != default:
                raise ConfigError(name, str(value), "the default, or backend event")
        if self.nodes > _MAX_REAL:
            expected = f"at most {_MAX_REAL} on real; event takes more"
            raise ConfigError("nodes", str(self.nodes), expected)

    def perform(self, run: Run) -> Measured[ChurnFigures]:
        """See `Scenario.perform`."""
        if self.backend is Backend.EVENT:
            return on_event.measure(
                Asked(
                    nodes=self.nodes,
                    hours=self.hours,
                    trace=Path(self.sessions) if self.sessions else None,
                    prefer=self.prefer,
                    check_s=self.check_s or None,
                ),
                run,
            )
        return DhtScenario.perform(self, run)

    async def measure(self, network: DhtNetwork, run: Run) -> ChurnFigures:
        """Put, let the hours pass, count, read."""
        publications = [draft(network, f"owner {n}") for n in range(self.records)]
        await _put_and_go(network, publications)
        sent_before = network.network.statistics().sent
        sessions = _Sessions(network)
        for hour in range(math.ceil(self.hours)):
            run.progress(hour, self.hours, "hours")
            await sessions.run(min(1.0, self.hours - hour) * HOUR_S)
        sent = network.network.statistics().sent - sent_before
        now = network.wall_clock()
        holders = [
            sum(bool(node.store.records(p.key, now)) for node in network.nodes)
            for p in publications
        ]
        gets = self.gets or self.records
        askers = sessions.settled()
        first = await read_many(network, askers, publications, read_first, gets)
        return RecordsFigures(
            met=min(holders) > 0 and first.success == 1.0,
            left=sessions.left,
            lost=holders.count(0),
            holders_min=min(holders),
            holders_mean=sum(holders) / len(holders),
            datagrams_per_node_s=sent / self.nodes / (self.hours * HOUR_S),
            first=first,
        )


class _Sessions:
    """When every node leaves, and who comes instead."""

    def __init__(self, network: DhtNetwork) -> None:
        self.left = 0
        self._network = network
        self._order = itertools.count()
        self._joining: set[DhtNode] = set()
        # Those already there are in the middle of a session, more likely a long one.
        now = trio.current_time()
        self._ends = [
            (now + _SESSIONS.residual_s(network.rng), next(self._order), node)
            for node in network.nodes
        ]
        heapq.heapify(self._ends)

    async def run(self, duration_s: float) -> None:
        """Let nodes go and come for so long."""
        ends_at = trio.current_time() + duration_s
        while self._ends[0][0] < ends_at:
            leaves_at, _, node = heapq.heappop(self._ends)
            await trio.sleep_until(leaves_at)
            self._joining.discard(node)
            self._network.remove(node)
            self.left += 1
            await self._replace()
        await trio.sleep_until(ends_at)

    def settled(self) -> list[DhtNode]:
        """The nodes whose join is over."""
        return [node for node in self._network.nodes if node not in self._joining]

    async def _replace(self) -> None:
        rng = self._network.rng
        known = rng.sample(self.settled(), _THROUGH)
        node = await self._network.add()
        self._joining.add(node)
        session_s = _SESSIONS.whole_s(rng)
        entry = (trio.current_time() + session_s, next(self._order), node)
        heapq.heappush(self._ends, entry)
        # In its own nursery: who leaves in the middle of joining is gone at once.
        node.life.start_soon(self._join, node, known)

    async def _join(self, node: DhtNode, known: list[DhtNode]) -> None:
        """Join like a node that starts: again through others when nobody answered."""
        while not await node.dht.join([other.hub.local for other in known]):
            known = self._network.rng.sample(self.settled(), _THROUGH)
        self._joining.discard(node)


async def _put_and_go(network: DhtNetwork, publications: list[Publication]) -> None:
    """Leaves put the records, and are gone."""
    owners: list[DhtNode] = []
    for _ in range(_OWNERS):
        owner = await network.add(leaf=True)
        known = network.rng.sample(network.nodes[: -len(owners) - 1], _THROUGH)
        await owner.dht.join([other.hub.local for other in known])
        owners.append(owner)
    await publish(network, owners, publications)
    for owner in owners:
        network.remove(owner)
