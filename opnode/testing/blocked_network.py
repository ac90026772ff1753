"""A network that passes no UDP, until it is told to: a firewall of an office.

Owns whether datagrams pass, in both directions. Refuses to delay or lose single ones.
"""

from opnode.core.addresses import Endpoint
from opnode.core.interfaces import InterfaceAddress
from opnode.drivers.network.changes import Addresses
from opnode.drivers.network.network import (
    Buffer,
    DatagramSocket,
    Network,
    Received,
    SocketStatistics,
)


class BlockedNetwork:
    """A `Network` whose sockets send and receive nothing while it is blocked.

    Attributes:
        is_blocked: may be changed at any time.
        swallowed: datagrams that did not pass, runs counted as one.
    """

    def __init__(self, inner: Network) -> None:
        self.is_blocked = True
        self.swallowed = 0
        self._inner = inner

    async def bind(self, endpoint: Endpoint) -> DatagramSocket:
        """See `Network.bind`."""
        return _BlockedSocket(await self._inner.bind(endpoint), self)

    def interface_addresses(self) -> tuple[InterfaceAddress, ...]:
        """See `Network.interface_addresses`."""
        return self._inner.interface_addresses()

    async def wait_changed(self, known: Addresses) -> Addresses:
        """See `Network.wait_changed`."""
        return await self._inner.wait_changed(known)

    def has_route(self, endpoint: Endpoint) -> bool:
        """See `Network.has_route`."""
        return self._inner.has_route(endpoint)

    async def resolve(self, host: str, port: int) -> tuple[Endpoint, ...]:
        """See `Network.resolve`."""
        return await self._inner.resolve(host, port)


class _BlockedSocket:
    def __init__(self, inner: DatagramSocket, network: BlockedNetwork) -> None:
        self._inner = inner
        self._network = network

    @property
    def local(self) -> Endpoint:
        return self._inner.local

    @property
    def max_segments(self) -> int:
        return self._inner.max_segments

    def receive(self) -> Received | None:
        received = self._inner.receive()
        while received is not None and self._network.is_blocked:
            self._network.swallowed += 1
            received = self._inner.receive()
        return received

    def send(
        self, data: Buffer, destination: Endpoint, segment_size: int = 0, ecn: int = 0
    ) -> bool:
        if self._network.is_blocked:
            self._network.swallowed += 1
            return True
        return self._inner.send(data, destination, segment_size, ecn)

    async def wait_readable(self) -> None:
        await self._inner.wait_readable()

    async def wait_writable(self) -> None:
        await self._inner.wait_writable()

    def close(self) -> None:
        self._inner.close()

    def statistics(self) -> SocketStatistics:
        return self._inner.statistics()
