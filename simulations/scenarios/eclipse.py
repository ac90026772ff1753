"""Can an hour of strangers take a node's table over, so that it restarts among liars?

Total Eclipse (Prünster et al., 2020): whoever asks a node often enough gets into its
table, and after a restart it knows nobody else. Here a gang joins like everybody,
turns, and asks one node again and again for an hour: some have ids ground next to its
id, at addresses of their own all over the Internet, the others live in a few rented
networks. Fresh ids that prove their addresses and go away come on top. Then the node
restarts from the contacts that it remembered, without any seed, and reads records of
honest nodes. Only the victim does its periodic work; the others answer.

With `open_door` the victim takes whoever asks and counts no subnets, as most DHTs did.
Kademlia's preference for old contacts stays.
"""

from typing import Annotated, ClassVar, Final

import trio

from opnode.core.ids import NodeId, node_id_of
from opnode.drivers.dht.config import DhtConfig
from opnode.drivers.rpc.exchange import Indifferent
from opnode.protocols.routing import RoutingConfig
from opnode.protocols.rpc.messages import FindNode
from opnode.testing.adversaries import Gang, Lie, plant
from opnode.testing.dht_nodes import DhtNetwork, DhtNode
from opnode.testing.flooding import flood_fresh
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
from simulations.scenario import Figures, parameter

_SETTLE_S: Final = 1200.0
_MINUTE_S: Final = 60.0
_HONEST: Final = 0.9
_SUCCESS: Final = 0.99
_UNCAPPED: Final = 1_000_000
_HOSTS: Final = 250
"""Of a rented /24."""


class EclipseFigures(Figures, frozen=True, kw_only=True):
    """Of the victim's table.

    Attributes:
        honest_share: of the contacts after the flood; ``contacts`` of them in all.
        intruders: contacts that are not honest, among them the ids that are gone.
        kept: share of the contacts before the flood that are still there.
        honest_lost: honest nodes that were in the table before and are not after.
        restarted_contacts: after the restart; ``restarted_honest_share`` of them.
        first, latest: reads by the restarted node.
    """

    contacts_before: int
    contacts: int
    honest_share: float
    intruders: int
    kept: float
    honest_lost: int
    restarted_contacts: int
    restarted_honest_share: float
    first: Reads
    latest: Reads


class EclipseScenario(DhtScenario[EclipseFigures], frozen=True, kw_only=True):
    """An hour's flood of one node, then its restart."""

    name: ClassVar[str] = "eclipse"
    question: ClassVar[str] = (
        "Does a flood of contacts take a table over, so that a restart ends among"
        " liars?"
    )
    expected: ClassVar[str] = (
        "At least 90 % of the table stays honest, and the restarted node finds what was"
        " published."
    )
    nodes: Annotated[int, parameter("Honest nodes", low=10, high=20_000)] = 300
    public: Annotated[
        bool, parameter("Addresses all over the Internet, not in 10/8")
    ] = True
    near: Annotated[int, parameter("Ids ground next to the victim's", low=0)] = 20
    rented: Annotated[
        int, parameter("Other attackers, in rented networks of /24", low=0, high=2000)
    ] = 100
    networks: Annotated[
        int, parameter("Rented networks that these live in", low=1, high=200)
    ] = 2
    fresh: Annotated[
        int, parameter("Ids a minute that come once, prove themselves and go", low=0)
    ] = 100
    minutes: Annotated[
        int, parameter("How long the flood lasts", unit="min", low=1, high=1440)
    ] = 60
    open_door: Annotated[
        bool, parameter("The victim takes in whoever asks, of any subnet")
    ] = False
    reads: Annotated[int, parameter("Reads of each kind", low=1)] = 50

    async def measure(self, network: DhtNetwork, run: Run) -> EclipseFigures:
        """Let a node settle, flood it, restart it, and let it read."""
        honest = list(network.nodes)
        publications = [draft(network, f"record {n}") for n in range(10)]
        await publish(network, honest, publications)
        victim = await self._victim(network, honest)
        before = {contact.node_id for contact in victim.dht.contacts()}
        gang = await self._gang(network, victim)
        await self._flood(network, victim, gang, run)
        after = {contact.node_id for contact in victim.dht.contacts()}
        good = {node.rpc.node_id for node in honest}
        again = await self._restart(network, victim)
        restarted = {contact.node_id for contact in again.dht.contacts()}
        first, latest = [
            await read_many(network, [again], publications, read, self.reads)
            for read in (read_first, read_latest)
        ]
        share = len(after & good) / max(1, len(after))
        return EclipseFigures(
            met=share >= _HONEST and min(first.success, latest.success) >= _SUCCESS,
            contacts_before=len(before),
            contacts=len(after),
            honest_share=share,
            intruders=len(after - good),
            kept=len(before & after) / max(1, len(before)),
            honest_lost=len((before & good) - after),
            restarted_contacts=len(restarted),
            restarted_honest_share=len(restarted & good) / max(1, len(restarted)),
            first=first,
            latest=latest,
        )

    def _config(self) -> DhtConfig:
        if not self.open_door:
            return DhtConfig()
        routing = RoutingConfig(
            subnet_cap=_UNCAPPED,
            table_subnet_cap=_UNCAPPED,
            stocked=_UNCAPPED,
            neighbours=_UNCAPPED,
        )
        return DhtConfig(routing=routing)

    async def _victim(self, network: DhtNetwork, honest: list[DhtNode]) -> DhtNode:
        """One more node, that has been there for long enough to have met others."""
        victim = await network.add(dht_config=self._config(), maintained=True)
        await victim.dht.join([node.hub.local for node in honest[:3]])
        await settle(network, [victim])
        await trio.sleep(_SETTLE_S)
        return victim

    async def _gang(self, network: DhtNetwork, victim: DhtNode) -> list[DhtNode]:
        """Attackers next to the victim and in rented networks, who join and turn."""
        rng = network.rng
        entries = [node.hub.local for node in rng.sample(network.nodes[:-1], 3)]
        members = await plant(network, victim.rpc.node_id, self.near, rng)
        subnets = [
            network.next_address().rpartition(".")[0] for _ in range(self.networks)
        ]
        for number in range(self.rented):
            subnet = subnets[number % len(subnets)]
            host = f"{subnet}.{1 + number // len(subnets) % _HOSTS}"
            node_id: NodeId = node_id_of(rng.randbytes(32), host)
            node = await network.add(host=host, node_id=node_id)
            await node.dht.join(entries)
            members.append(node)
        gang = Gang(network, network.nursery, rng)
        for member in members:
            gang.turn(member, Lie.COLLUDE)
        return members

    async def _flood(
        self, network: DhtNetwork, victim: DhtNode, gang: list[DhtNode], run: Run
    ) -> None:
        """Every member asks the victim twice a minute; fresh ids come beside."""
        rng = network.rng
        for minute in range(self.minutes):
            ends_at = trio.current_time() + _MINUTE_S
            for _ in range(2):
                for member in gang:
                    body = FindNode(rng.randbytes(20))
                    member.rpc.start(victim.hub.local, body, Indifferent())
                await trio.sleep(_MINUTE_S / 4)
            await flood_fresh(network, victim, self.fresh)
            await trio.sleep_until(ends_at)
            run.progress(minute + 1, self.minutes, "minutes")

    async def _restart(self, network: DhtNetwork, victim: DhtNode) -> DhtNode:
        """End the victim and begin it anew, with what it remembered and no seed."""
        known = victim.dht.known_contacts()
        host, node_id = victim.hub.local.host, victim.rpc.node_id
        network.remove(victim)
        again = await network.add(host=host, node_id=node_id, dht_config=self._config())
        await again.dht.restore(known)
        return again
