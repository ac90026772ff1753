"""Many DHT nodes on one virtual network: the shipped drivers, without people on top.

Owns their construction, addresses, joining and end. Refuses to know what is stored.
"""

import bisect
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from opnode.core.addresses import Endpoint
from opnode.core.ids import Contact, NodeId, distance, node_id_of
from opnode.core.records import SignedRecord
from opnode.drivers.dht.config import DhtConfig
from opnode.drivers.dht.dht import Dht
from opnode.drivers.rpc.config import RpcConfig
from opnode.drivers.rpc.exchange import Answer
from opnode.drivers.rpc.rpc import Rpc
from opnode.drivers.socket_hub import SocketHub
from opnode.drivers.store import RecordStore
from opnode.protocols.rpc.messages import Pong
from opnode.testing.addresses import Addresses
from opnode.testing.clock import VirtualWallClock
from opnode.testing.keys import seeded_signing_key
from opnode.testing.nat import VirtualNat
from opnode.testing.virtual_network import Link, VirtualNetwork

PORT = 4000
_ID_BITS: Final = 160


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DhtNode:
    """One node's parts.

    Attributes:
        life: holds the node's tasks.
        wall_clock: its own; `VirtualWallClock.jump` makes it wrong.
    """

    hub: SocketHub
    rpc: Rpc
    dht: Dht
    store: RecordStore
    life: trio.Nursery
    wall_clock: VirtualWallClock

    @property
    def contact(self) -> Contact:
        """The node as others know it."""
        return Contact(self.rpc.node_id, self.hub.local)


class DhtAudit(Protocol):
    """Is told what owners sign and what readers accept."""

    def signed(self, key: bytes, record: SignedRecord) -> None:
        """An owner signed this, to be stored under this key."""
        ...

    def read(
        self,
        reader: DhtNode,
        key: bytes,
        records: Sequence[SignedRecord],
        *,
        is_complete: bool,
    ) -> None:
        """A read brought these; one that is complete asked the whole region."""
        ...


class DhtNetwork:
    """Nodes that run in a nursery of the caller's.

    Args:
        nursery: outlives the nodes.
        seed: decides ids, latencies and every choice.
        link: the wires; no latency by default.
        public: hosts get addresses all over the Internet, where ids are bound to them
            and subnets count, in place of 10.0.0.0/8.

    Attributes:
        wall_clock: the right time; nodes begin with it.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        seed: int,
        link: Link | None = None,
        *,
        public: bool = False,
    ) -> None:
        self.rng = random.Random(seed)  # noqa: S311 - a simulation must be repeatable
        self.network = VirtualNetwork(self.rng, link)
        self.wall_clock = VirtualWallClock()
        self.nodes: list[DhtNode] = []
        self.audit: DhtAudit | None = None
        self._stores: list[RecordStore] = []
        self.nursery = nursery
        self._seed = seed
        self._maintained = False
        self._made = 0
        self._addresses = Addresses(seed, public=public)
        # One for all: they fit into the cache of a processor, a thousand do not.
        self._dht_config = DhtConfig()
        self._rpc_config = RpcConfig()

    async def add(
        self,
        *,
        host: str | VirtualNat | None = None,
        node_id: NodeId | None = None,
        leaf: bool = False,
        dht_config: DhtConfig | None = None,
        rpc_config: RpcConfig | None = None,
        maintained: bool = False,
    ) -> DhtNode:
        """Start a node that knows nobody.

        Args:
            host: its address, or the box that it is behind; the next free address by
                default.
            node_id: its place, for those who choose it; its key's by default.
            leaf: it asks to be in nobody's table.
            dht_config: limits and periods.
            rpc_config: limits of its requests.
            maintained: run its periodic work too, whatever ``maintain`` says.
        """
        self._made += 1
        if isinstance(host, VirtualNat):
            address, place = host.address, host.host()
            hub = SocketHub(await place.bind(Endpoint(place.address, PORT)))
        else:
            address = host or self.next_address()
            bind = self.network.host(address).bind
            hub = SocketHub(await bind(Endpoint(address, PORT)))
        key = seeded_signing_key(f"node {self._seed} {self._made}")
        rpc = Rpc(
            hub,
            node_id=node_id or node_id_of(key.public, address),
            leaf=leaf,
            signing_key=key,
            rng=self.rng,
            config=rpc_config or self._rpc_config,
        )
        store = RecordStore()
        self._stores.append(store)
        # One for each node, as each has a clock of its own that may be wrong.
        clock = VirtualWallClock()
        dht = Dht(
            rpc,
            store,
            wall_clock=clock,
            rng=self.rng,
            config=dht_config or self._dht_config,
        )
        periodic = dht if maintained or self._maintained else None
        life = await self.nursery.start(_live, hub, rpc, periodic)
        node = DhtNode(
            hub=hub, rpc=rpc, dht=dht, store=store, life=life, wall_clock=clock
        )
        self.nodes.append(node)
        return node

    async def grow(
        self,
        count: int,
        *,
        through: int = 1,
        pause_s: float = 0.0,
        dht_config: DhtConfig | None = None,
    ) -> None:
        """Add nodes one by one; each joins through random earlier ones.

        A node lets only so many newcomers into its table within an hour, so that a
        network has to grow over hours (``pause_s`` between two) to be a settled one.
        """
        for _ in range(count):
            earlier = self.rng.sample(self.nodes, min(through, len(self.nodes)))
            node = await self.add(dht_config=dht_config)
            if earlier:
                await node.dht.join([other.hub.local for other in earlier])
            await trio.sleep(pause_s)

    def acquaint(self, k: int) -> None:
        """Fill all tables from the truth, as in a network that was settled for long.

        For each number of leading bits that ids share with its own, a node hears ``k``
        of those nodes at random, or all there are: the tables of the Kademlia paper. No
        datagram is sent, and no token is known.
        """
        contacts = sorted(node.contact for node in self.nodes)
        ids = [int.from_bytes(contact.node_id) for contact in contacts]
        for node in self.nodes:
            hear = node.rpc.on_answered
            assert hear is not None
            own = int.from_bytes(node.rpc.node_id)
            for bit in range(_ID_BITS):
                start = (own ^ 1 << bit) >> bit << bit
                first = bisect.bisect_left(ids, start)
                last = bisect.bisect_left(ids, start + (1 << bit))
                for place in self.rng.sample(range(first, last), min(k, last - first)):
                    contact, seen = contacts[place], node.contact.endpoint
                    hear(Answer(Pong(), contact, 0.0, seen, leaf=False))

    def maintain(self, *nodes: DhtNode) -> None:
        """Run the periodic work of these nodes, or else of all that are and come.

        Lookups need none, but for what they do in the background.
        """
        self._maintained = self._maintained or not nodes
        for node in nodes or self.nodes:
            node.life.start_soon(node.dht.run)

    def next_address(self) -> str:
        """An address that nobody has; a public one is alone in its /24."""
        return self._addresses.next()

    def kill(self, node: DhtNode) -> None:
        """Turn a node into a black hole that others still know."""
        self.network.kill(node.hub.local.host)
        node.life.cancel_scope.cancel()

    def remove(self, node: DhtNode) -> None:
        """Kill a node for good and forget everything about it."""
        node.life.cancel_scope.cancel()
        node.hub.close()
        node.store.close()
        self._stores.remove(node.store)
        self.nodes.remove(node)

    def true_closest(self, key: bytes, k: int, asker: DhtNode) -> list[NodeId]:
        """The k nodes nearest to a key but the asker, as only a simulation can know."""
        ids = [node.rpc.node_id for node in self.nodes if node is not asker]
        return sorted(ids, key=lambda node_id: distance(node_id, key))[:k]

    def close(self) -> None:
        """Close every database, also of nodes that a caller took out of ``nodes``."""
        for store in self._stores:
            store.close()


async def _live(
    hub: SocketHub,
    rpc: Rpc,
    periodic: Dht | None,
    *,
    task_status: trio.TaskStatus[trio.Nursery],
) -> None:
    """Run a node's tasks until its scope is cancelled."""
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        await nursery.start(rpc.run)
        if periodic is not None:
            await nursery.start(periodic.run)
        task_status.started(nursery)
