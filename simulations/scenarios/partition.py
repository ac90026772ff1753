"""After a network was cut in two, who reads what both sides wrote meanwhile, and when?

Owners have a device on either side, and both go on publishing: each version is put
from one side alone, the newest from either. After the healing readers on both sides ask
again and again; each remembers the newest version that it saw and wants none before it.
Each round has records of its own, that nobody read since the cut, as reading repairs.
"""

import itertools
from collections.abc import Sequence
from typing import Annotated, ClassVar, Final

import trio

from opnode.core.errors import RecordNotFound
from opnode.core.ids import distance
from opnode.core.records import SignedRecord
from opnode.testing.dht_nodes import DhtNetwork, DhtNode
from opnode.testing.virtual_network import Link
from simulations.backends.real import DhtScenario
from simulations.model.durations import LATENCY_S
from simulations.reads import Publication, draft, publish
from simulations.run_context import Run
from simulations.scenario import Figures, parameter

_K: Final = 20
_SETTLE_S: Final = 3600.0
_ROUNDS_S: Final = (0.0, 60.0, 300.0, 900.0, 1800.0, 3600.0)
"""When readers ask, after the healing; then every hour."""
_SOON_S: Final = 40.0
"""What is read in the background has been read by then."""


class PartitionFigures(Figures, frozen=True, kw_only=True):
    """How the halves came together.

    Attributes:
        across_before, across_at_heal, across_after: contacts that are on the other
            side, as a share of all in the tables.
        near_at_heal, near_after: of the k nodes nearest to a node those that it knows.
        readers_s: when every reader had the highest version of all that it ever read.
        records_s: when records that nobody had read since the cut were first all found
            in their highest version, at once or in the background. -1 where that did
            not happen; both times are of a round, so late by up to the pause before it.
        went_back: reads that brought an older version than their reader knew.
        unfound: reads that brought nothing as new as what their reader knew.
        lost: records of which nobody holds the highest version at the end.
    """

    across_before: float
    across_at_heal: float
    across_after: float
    near_at_heal: float
    near_after: float
    readers_s: float
    records_s: float
    went_back: int
    unfound: int
    lost: int


class PartitionScenario(DhtScenario[PartitionFigures], frozen=True, kw_only=True):
    """The two sides are drawn at random; nobody leaves or comes."""

    name: ClassVar[str] = "partition"
    question: ClassVar[str] = (
        "How soon after a partition does everybody read what either side published?"
    )
    expected: ClassVar[str] = (
        "At once after cuts of minutes, as tables still know the other side. After"
        " hours none does; then servers ask those whom they lost, one each ten minutes,"
        " and whoever gets across brings others."
    )
    maintained: ClassVar[bool] = True
    link: ClassVar[Link] = Link(latency_s=LATENCY_S, grain_s=0.01)

    nodes: Annotated[int, parameter("Nodes of the DHT", low=10, high=20_000)] = 60
    side: Annotated[
        float,
        parameter(
            "Nodes on the smaller side", unit="share", low=0.1, high=0.5, drawn="alike"
        ),
    ] = 0.5
    minutes: Annotated[
        float, parameter("How long the cut lasts", unit="min", low=0, high=100_000)
    ] = 30.0
    hours: Annotated[
        int, parameter("Watched after the healing", unit="h", low=1, high=1000)
    ] = 4
    records: Annotated[int, parameter("Records of each round", low=1, high=10_000)] = 8
    versions: Annotated[
        int, parameter("Put of each record during the cut", low=1, high=100)
    ] = 4
    readers: Annotated[int, parameter("Readers on each side", low=1, high=1000)] = 4

    async def measure(self, network: DhtNetwork, run: Run) -> PartitionFigures:
        """Publish, cut, publish on both sides, heal, read in rounds."""
        sides = self._sides(network)
        rounds = [*_ROUNDS_S, *(3600.0 * hour for hour in range(2, self.hours + 1))]
        groups = [
            [
                draft(network, f"owner {number} {n}", 1 + self.versions)
                for n in range(self.records)
            ]
            for number in range(len(rounds))
        ]
        everything = list(itertools.chain.from_iterable(groups))
        await publish(network, network.nodes, everything)
        await trio.sleep(_SETTLE_S)
        merging = _Merging(network, sides, self.readers)
        across_before = merging.across()
        await self._cut(network, sides, everything)
        across, near = merging.across(), merging.near()
        healed_at = trio.current_time()
        for number, (at_s, group) in enumerate(zip(rounds, groups, strict=True)):
            await trio.sleep_until(healed_at + at_s)
            run.progress(number, len(rounds), "rounds")
            await merging.look(run, at_s, group)
        return PartitionFigures(
            met=merging.is_whole() and not merging.went_back,
            across_before=across_before,
            across_at_heal=across,
            across_after=merging.across(),
            near_at_heal=near,
            near_after=merging.near(),
            readers_s=merging.readers_s,
            records_s=merging.records_s,
            went_back=merging.went_back,
            unfound=merging.unfound,
            lost=sum(not _is_held(network, one) for one in everything),
        )

    def _sides(self, network: DhtNetwork) -> tuple[list[DhtNode], list[DhtNode]]:
        mixed = network.rng.sample(network.nodes, len(network.nodes))
        smaller = max(1, int(self.side * len(mixed)))
        return mixed[:smaller], mixed[smaller:]

    async def _cut(
        self,
        network: DhtNetwork,
        sides: tuple[list[DhtNode], list[DhtNode]],
        publications: Sequence[Publication],
    ) -> None:
        """Cut, let each version be put by one side, heal."""
        hosts = [[node.hub.local.host for node in side] for side in sides]
        network.network.partition(*hosts)
        pause_s = self.minutes * 60 / self.versions
        cut_at = trio.current_time()
        for version in range(1, self.versions + 1):
            for number, publication in enumerate(publications):
                side = sides[(number + version) % 2]
                await publish(network, side, [publication], version)
            await trio.sleep_until(cut_at + version * pause_s)
        network.network.heal()


class _Merging:
    """Readers on both sides, what each knows, and how whole the network is."""

    def __init__(
        self,
        network: DhtNetwork,
        sides: tuple[list[DhtNode], list[DhtNode]],
        readers: int,
    ) -> None:
        self.went_back = 0
        self.unfound = 0
        self.readers_s = -1.0
        self.records_s = -1.0
        self._network = network
        self._other = {
            node: {other.rpc.node_id for other in sides[not number]}
            for number, side in enumerate(sides)
            for node in side
        }
        self._readers = [
            node
            for side in sides
            for node in network.rng.sample(side, min(readers, len(side)))
        ]
        self._known: dict[tuple[DhtNode, Publication], int] = {}

    def across(self) -> float:
        """The share of contacts that are on the other side."""
        known = across = 0
        for node, other in self._other.items():
            contacts = node.dht.contacts()
            known += len(contacts)
            across += sum(contact.node_id in other for contact in contacts)
        return across / max(1, known)

    def near(self) -> float:
        """Of the k nodes nearest to each node those that it knows."""
        ids = [node.rpc.node_id for node in self._other]
        found = wanted = 0
        for node in self._other:
            own = node.rpc.node_id
            nearest = sorted(ids, key=lambda other: distance(other, own))[1 : _K + 1]
            found += len({c.node_id for c in node.dht.contacts()}.intersection(nearest))
            wanted += len(nearest)
        return found / wanted

    def is_whole(self) -> bool:
        """Whether readers and records came together."""
        return self.readers_s >= 0 and self.records_s >= 0

    async def look(self, run: Run, at_s: float, fresh: Sequence[Publication]) -> None:
        """Let everybody read what is new, and again what they know an old one of."""
        first = 0
        across, near = self.across(), self.near()
        behind = [pair for pair in self._known if self._is_behind(pair)]
        news = [(reader, one) for reader in self._readers for one in fresh]
        for pair in news:
            await self._read(pair)
            first += not self._is_behind(pair)
        for pair in behind:
            await self._read(pair)
        await trio.sleep(_SOON_S)
        fresh_behind = sum(map(self._is_behind, news))
        if not fresh_behind and self.records_s < 0:
            self.records_s = at_s
        still = sum(map(self._is_behind, self._known))
        self.readers_s = at_s if still or self.readers_s < 0 else self.readers_s
        if still:
            self.readers_s = -1.0
        run.row(
            "merging",
            t_s=at_s,
            across=across,
            near=near,
            newest_at_first=first / len(news),
            newest_soon=1 - fresh_behind / len(news),
            readers_behind=still,
        )

    def _is_behind(self, pair: tuple[DhtNode, Publication]) -> bool:
        return self._known.get(pair, 0) < pair[1].versions[-1].seq

    async def _read(self, pair: tuple[DhtNode, Publication]) -> None:
        """Read as a node does that remembers the newest version it saw."""
        reader, publication = pair
        owner = publication.versions[0].owner
        least = self._known.setdefault(pair, 0)

        def note(record: SignedRecord) -> None:
            self._known[pair] = max(self._known[pair], record.seq)

        try:
            found = await reader.dht.find_first(
                publication.key, lambda r: r.owner == owner and r.seq >= least, note
            )
        except RecordNotFound:
            self.unfound += 1
            return
        for record in found:
            self.went_back += record.seq < least
            note(record)


def _is_held(network: DhtNetwork, publication: Publication) -> bool:
    now, newest = network.wall_clock(), publication.versions[-1].wire
    return any(
        record.wire == newest
        for node in network.nodes
        for record in node.store.records(publication.key, now)
    )
