"""Can nodes whose ids are ground next to a key hide what is published there?

The askers have run a few lookups before, as everybody has after an hour. The attackers
join like everybody, then turn: silent ones answer PING alone, active ones name only
each other and take what is stored. Then the owner, one of the askers, publishes for the
first time and all of them look for it. On `event` the shipped lookup runs among as many
nodes as wanted (`simulations.scenarios.sybil.drill`), and ``alarmed`` is the share of
the lookups at an attacked key.
"""

from typing import Annotated, ClassVar, Final

from opnode.core.errors import ConfigError
from opnode.protocols.lookup.config import LookupConfig
from opnode.testing.adversaries import Gang, Lie, plant
from opnode.testing.dht_nodes import DhtNetwork
from simulations.backends.real import DhtScenario
from simulations.reads import (
    Reads,
    draft,
    publish,
    read_first,
    read_latest,
    read_many,
    settle,
)
from simulations.run_context import Run
from simulations.scenario import Backend, Figures, Measured, parameter
from simulations.scenarios.sybil.drill import Attack, Drill
from simulations.scenarios.sybil.oracle import Oracle

_SUCCESS: Final = 0.99
_MOST_REAL: Final = 20_000


class SybilFigures(Figures, frozen=True, kw_only=True):
    """What the honest nodes achieved.

    Attributes:
        honest_holders_mean: honest nodes that hold a record after its put.
        alarmed: share of the askers who show the alarm in the end.
    """

    put: float
    honest_holders_mean: float
    alarmed: float
    first: Reads
    latest: Reads


class SybilScenario(DhtScenario[SybilFigures], frozen=True, kw_only=True):
    """``keys`` are attacked one after the other, each by ``sybils`` of its own."""

    name: ClassVar[str] = "sybil"
    question: ClassVar[str] = (
        "Can ids chosen next to a key hide what is published there?"
    )
    expected: ClassVar[str] = (
        "No: records lie in a region sized by the density, not at the k nearest."
    )

    backends: ClassVar[tuple[Backend, ...]] = (Backend.REAL, Backend.EVENT)

    nodes: Annotated[int, parameter("Nodes of the DHT", low=1, high=1_000_000)] = 50
    sybils: Annotated[int, parameter("Ids next to each key", low=0, high=1000)] = 20
    active: Annotated[
        bool, parameter("They answer with each other in place of dropping requests")
    ] = False
    keys: Annotated[int, parameter("Keys attacked, one after the other", low=1)] = 3
    askers: Annotated[int, parameter("Nodes that read", low=1)] = 50
    lasting: Annotated[
        bool, parameter("On event: the same nodes read all keys, as they do on real")
    ] = False

    def check(self) -> None:
        """See `Scenario.check`."""
        if self.backend is Backend.REAL and self.nodes > _MOST_REAL:
            raise ConfigError("nodes", str(self.nodes), f"{_MOST_REAL} on `real`")
        if self.askers > self.nodes:
            raise ConfigError("askers", str(self.askers), f"at most {self.nodes} nodes")

    def perform(self, run: Run) -> Measured[SybilFigures]:
        """See `Scenario.perform`."""
        if self.backend is Backend.REAL:
            # Named, as classes made anew for their slots have no way up of their own.
            return DhtScenario.perform(self, run)
        attack = Attack(
            sybils=self.sybils,
            active=self.active,
            keys=self.keys,
            askers=self.askers,
            gets=self.askers,
            lasting=self.lasting,
        )
        drill = Drill(Oracle(self.nodes, LookupConfig().k, self.seed), attack, run)
        found = drill.perform()
        run.fold(drill.loop.digest())
        figures = SybilFigures(
            met=min(found.first.success, found.latest.success) >= _SUCCESS,
            put=found.put,
            honest_holders_mean=found.holders_mean,
            alarmed=found.alarmed,
            first=found.first,
            latest=found.latest,
        )
        return Measured(figures, drill.loop.count, drill.loop.now)

    async def measure(self, network: DhtNetwork, run: Run) -> SybilFigures:
        """Plant, turn, publish, read; for every key anew."""
        honest = list(network.nodes)
        askers = network.rng.sample(honest, min(self.askers, len(honest)))
        await settle(network, askers)
        publications = [draft(network, f"victim {n}") for n in range(self.keys)]
        for publication in publications:
            planted = await plant(network, publication.key, self.sybils, network.rng)
            gang = Gang(network, network.nursery, network.rng)
            for node in planted:
                gang.turn(node, Lie.COLLUDE if self.active else Lie.DROP)
        put = await publish(network, askers, publications)
        holders = sum(
            bool(node.store.records(publication.key, network.wall_clock()))
            for publication in publications
            for node in honest
        )
        run.progress(1, 2, "stages")
        gets = self.keys * self.askers
        first, latest = [
            await read_many(network, askers, publications, read, gets)
            for read in (read_first, read_latest)
        ]
        alarms = [asker.dht.statistics().alarm is not None for asker in askers]
        return SybilFigures(
            met=min(first.success, latest.success) >= _SUCCESS,
            put=put / self.keys,
            honest_holders_mean=holders / self.keys,
            alarmed=sum(alarms) / len(alarms),
            first=first,
            latest=latest,
        )
