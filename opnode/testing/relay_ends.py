"""A relay and nodes that use it, on a virtual network: drivers only, nobody on top."""

import random
from dataclasses import dataclass

import trio

from opnode.core.addresses import Endpoint
from opnode.core.ids import node_id_of
from opnode.drivers.network.network import Network
from opnode.drivers.relay.path import RelayPathConfig, RelayPaths
from opnode.drivers.relay.service import RelayService
from opnode.drivers.rpc.rpc import Rpc
from opnode.drivers.socket_hub import SocketHub
from opnode.protocols.relay import RelayConfig
from opnode.testing.keys import seeded_signing_key
from opnode.testing.virtual_network import VirtualNetwork

PORT = 4000


class PacketLog:
    """A connection sink that keeps what came, as ``(packet, source)``."""

    def __init__(self) -> None:
        self.packets: list[tuple[bytes, Endpoint]] = []

    def receive_run(
        self, buffer: memoryview, segment_size: int, source: Endpoint, ecn: int
    ) -> None:
        """Keep each packet."""
        del ecn
        for start in range(0, len(buffer), segment_size):
            packet = bytes(buffer[start : start + segment_size])
            self.packets.append((packet, source))

    def flush(self) -> None:
        """Nothing is answered."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RelayNode:
    """One node: a relay, a user of relays, or both."""

    hub: SocketHub
    rpc: Rpc
    service: RelayService | None
    paths: RelayPaths | None

    @property
    def endpoint(self) -> Endpoint:
        """Its address."""
        return self.hub.local


class RelayBench:
    """Makes such nodes, running in a nursery of the caller's.

    Attributes:
        network: the wires between them.
    """

    def __init__(self, nursery: trio.Nursery, network: VirtualNetwork) -> None:
        self.network = network
        self._nursery = nursery

    async def relay(self, host: str, config: RelayConfig | None = None) -> RelayNode:
        """Start a relay."""
        hub, rpc = await self._open(self.network.host(host), host)
        service = RelayService(rpc, hub, config or RelayConfig())
        await self._nursery.start(service.run)
        return RelayNode(hub=hub, rpc=rpc, service=service, paths=None)

    async def user(
        self,
        host: str,
        *,
        network: Network | None = None,
        config: RelayPathConfig | None = None,
    ) -> RelayNode:
        """Start a node that uses relays; ``network`` is a place behind a box."""
        hub, rpc = await self._open(network or self.network.host(host), host)
        paths = RelayPaths(rpc, hub, config=config)
        await self._nursery.start(paths.run)
        return RelayNode(hub=hub, rpc=rpc, service=None, paths=paths)

    async def _open(self, network: Network, host: str) -> tuple[SocketHub, Rpc]:
        place = network.interface_addresses()[0].host
        hub = SocketHub(await network.bind(Endpoint(place, PORT)))
        key = seeded_signing_key(host)
        rpc = Rpc(
            hub,
            node_id=node_id_of(key.public, host),
            leaf=False,
            signing_key=key,
            rng=random.Random(host),  # noqa: S311 - repeatable, guards nothing
        )
        await self._nursery.start(hub.run)
        await self._nursery.start(rpc.run)
        return hub, rpc
