"""Many DHT nodes on one virtual network: the shipped drivers, without people on top.

Owns their construction and joining. Refuses to know what is stored.
"""

import random
from dataclasses import dataclass

import trio

from opnode.core.addresses import Endpoint
from opnode.core.ids import Contact, NodeId, distance, node_id_of
from opnode.drivers.dht.config import DhtConfig
from opnode.drivers.dht.dht import Dht
from opnode.drivers.rpc.config import RpcConfig
from opnode.drivers.rpc.rpc import Rpc
from opnode.drivers.socket_hub import SocketHub
from opnode.drivers.store import RecordStore
from opnode.testing.clock import VirtualWallClock
from opnode.testing.keys import seeded_signing_key
from opnode.testing.virtual_network import Link, VirtualNetwork

PORT = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class DhtNode:
    """One node's parts."""

    hub: SocketHub
    rpc: Rpc
    dht: Dht
    store: RecordStore

    @property
    def contact(self) -> Contact:
        """The node as others know it."""
        return Contact(self.rpc.node_id, self.hub.local)


class DhtNetwork:
    """Nodes that run in a nursery of the caller's.

    Args:
        nursery: outlives the nodes.
        seed: decides ids, latencies and every choice.
        link: the wires; no latency by default.
    """

    def __init__(
        self, nursery: trio.Nursery, seed: int, link: Link | None = None
    ) -> None:
        self.rng = random.Random(seed)  # noqa: S311 - a simulation must be repeatable
        self.network = VirtualNetwork(self.rng, link)
        self.wall_clock = VirtualWallClock()
        self.nodes: list[DhtNode] = []
        self._nursery = nursery
        self._seed = seed

    async def add(
        self,
        *,
        host: str | None = None,
        leaf: bool = False,
        dht_config: DhtConfig | None = None,
        rpc_config: RpcConfig | None = None,
        maintained: bool = False,
    ) -> DhtNode:
        """Start a node that knows nobody.

        Args:
            host: its address; the next of 10.0.0.0/8 by default.
            leaf: it asks to be in nobody's table.
            dht_config: limits and periods.
            rpc_config: limits of its requests.
            maintained: run its periodic work too; lookups need none.
        """
        number = len(self.nodes) + 1
        address = host or f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        virtual_host = self.network.host(address)
        hub = SocketHub(await virtual_host.bind(Endpoint(address, PORT)))
        key = seeded_signing_key(f"node {self._seed} {number}")
        rpc = Rpc(
            hub,
            node_id=node_id_of(key.public, address),
            leaf=leaf,
            signing_key=key,
            rng=self.rng,
            config=rpc_config,
        )
        store = RecordStore()
        clock = self.wall_clock
        dht = Dht(rpc, store, wall_clock=clock, rng=self.rng, config=dht_config)
        await self._nursery.start(hub.run)
        await self._nursery.start(rpc.run)
        if maintained:
            await self._nursery.start(dht.run)
        node = DhtNode(hub=hub, rpc=rpc, dht=dht, store=store)
        self.nodes.append(node)
        return node

    async def grow(self, count: int) -> None:
        """Add nodes one by one; each joins through a random earlier one."""
        for _ in range(count):
            earlier = self.rng.choice(self.nodes) if self.nodes else None
            node = await self.add()
            if earlier is not None:
                await node.dht.join([earlier.hub.local])

    def kill(self, node: DhtNode) -> None:
        """Turn a node into a black hole that others still know."""
        self.network.kill(node.hub.local.host)

    def true_closest(self, key: bytes, k: int, asker: DhtNode) -> list[NodeId]:
        """The k nodes nearest to a key but the asker, as only a simulation can know."""
        ids = [node.rpc.node_id for node in self.nodes if node is not asker]
        return sorted(ids, key=lambda node_id: distance(node_id, key))[:k]

    def close(self) -> None:
        """Close every database."""
        for node in self.nodes:
            node.store.close()
