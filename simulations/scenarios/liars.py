"""Are records found while a share of the nodes lies, and is a lie ever believed?

All nodes join honestly, the askers run as many lookups as anybody does in the first
hour, and the first version of every record is stored. Then the liars turn, at once,
knowing all first versions. The askers put the second version, through the liars, and
read it: as the newest of the whole region, as the first that verifies, and as the first
that is new enough for a reader who knows of the change.
"""

from typing import Annotated, ClassVar, Final

from opnode.core.errors import ConfigError
from opnode.core.records import SignedRecord
from opnode.drivers.dht.dht import Dht
from opnode.testing.adversaries import Gang, Lie, choose_liars
from opnode.testing.dht_nodes import DhtNetwork
from simulations.backends.real import DhtScenario
from simulations.reads import (
    Publication,
    Reads,
    draft,
    publish,
    read_first,
    read_latest,
    read_many,
    read_newest,
    settle,
)
from simulations.run_context import Run
from simulations.scenario import Figures, parameter

MIXED: Final = "mixed"
_SUCCESS_THIRD: Final = 0.99
_SUCCESS_HALF: Final = 0.95
_HALF: Final = 0.5


class LiarsFigures(Figures, frozen=True, kw_only=True):
    """What honest readers got.

    Attributes:
        put: share of the second versions that at least one node acknowledged.
        first: first reads; any version of the owner's may end one.
        uncorrected: first reads that brought an older version, and no newer one in the
            background either.
        newest: first reads by readers who know of the change.
        latest: reads of the whole region.
    """

    put: float
    first: Reads
    uncorrected: int
    newest: Reads
    latest: Reads


class LiarsScenario(DhtScenario[LiarsFigures], frozen=True, kw_only=True):
    """``lie`` is one of ``adversaries.Lie`` or all of them, mixed."""

    name: ClassVar[str] = "liars"
    question: ClassVar[str] = (
        "What if some nodes answer only with their gang, drop, delay, replay or forge?"
    )
    expected: ClassVar[str] = (
        "Reads that know there is a newer version find it; nothing forged is accepted."
    )

    share: Annotated[
        float,
        parameter(
            "Liars among the nodes",
            unit="share",
            low=0,
            high=0.9,
            drawn="uniform over the nodes",
        ),
    ] = 0.3
    lie: Annotated[
        str,
        parameter("What they do: a lie of `adversaries.Lie`, or all of them, mixed"),
    ] = MIXED
    records: Annotated[int, parameter("Records put before", low=1, high=100_000)] = 50
    gets: Annotated[
        int, parameter("Reads of each kind; 0: each record once", low=0)
    ] = 0
    askers: Annotated[int, parameter("Nodes that read", low=1)] = 50

    def check(self) -> None:
        """See `Scenario.check`."""
        known = [MIXED, *(lie.value for lie in Lie)]
        if self.lie not in known:
            raise ConfigError("--lie", self.lie, "one of " + ", ".join(known))

    async def measure(self, network: DhtNetwork, run: Run) -> LiarsFigures:
        """Put, turn, put again, read."""
        some = network.rng.sample(network.nodes, min(self.askers, self.nodes))
        await settle(network, some)
        publications = [draft(network, f"owner {n}", 2) for n in range(self.records)]
        await publish(network, network.nodes, publications, 0)
        gang = Gang(network, network.nursery, network.rng)
        gang.seen.update((p.key, p.versions[0].wire) for p in publications)
        lies = list(Lie) if self.lie == MIXED else [Lie(self.lie)]
        honest = choose_liars(network, self.share, lies, gang)
        askers = [node for node in some if node in honest]
        network.maintain(*askers)
        put = await publish(network, askers, publications, 1)
        gets = self.gets or self.records
        run.progress(1, 2, "stages")
        pursued = _Pursued()
        first, newest, latest = [
            await read_many(network, askers, publications, read, gets)
            for read in (pursued.read, read_newest, read_latest)
        ]
        bar = _SUCCESS_HALF if self.share >= _HALF else _SUCCESS_THIRD
        forged = first.forged + newest.forged + latest.forged
        older = newest.older + latest.older + pursued.uncorrected()
        return LiarsFigures(
            met=min(newest.success, latest.success) >= bar and not forged + older,
            put=put / self.records,
            first=first,
            uncorrected=pursued.uncorrected(),
            newest=newest,
            latest=latest,
        )


class _Pursued:
    """First reads, and what turned up after them."""

    def __init__(self) -> None:
        self._seen: list[tuple[Publication, list[SignedRecord]]] = []

    async def read(self, dht: Dht, publication: Publication) -> list[SignedRecord]:
        """Read like ``read_first``, and go on listening."""
        seen: list[SignedRecord] = []
        self._seen.append((publication, seen))
        found = await read_first(dht, publication, seen.append)
        seen += found
        return found

    def uncorrected(self) -> int:
        """Reads that brought a version, and never the newest."""
        return sum(
            bool(seen) and publication.versions[-1] not in seen
            for publication, seen in self._seen
        )
