"""A network on top of another one, real or virtual, whose sockets pass a part of it.

Owns all that such a network hands on unchanged. Refuses to know what is kept back: the
networks that are made from it say so, each by its filter.
"""

from collections.abc import Callable
from typing import NoReturn

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

Filter = Callable[[Buffer, int], Buffer | None]
"""Takes a run and its segment size; returns what passes of it, None if nothing does."""


class FilteredSocket:
    """A `DatagramSocket` that asks a filter in each direction."""

    def __init__(
        self, inner: DatagramSocket, *, outgoing: Filter, incoming: Filter
    ) -> None:
        """Pass on to ``inner`` what is left."""
        self._inner = inner
        self._outgoing = outgoing
        self._incoming = incoming

    @property
    def local(self) -> Endpoint:
        """See `DatagramSocket.local`."""
        return self._inner.local

    @property
    def max_segments(self) -> int:
        """See `DatagramSocket.max_segments`."""
        return self._inner.max_segments

    def receive(self) -> Received | None:
        """See `DatagramSocket.receive`."""
        while (received := self._inner.receive()) is not None:
            buffer, segment_size, source, ecn = received
            left = self._incoming(buffer, segment_size)
            if left is not None:
                return Received(memoryview(left), segment_size, source, ecn)
        return None

    def send(
        self, data: Buffer, destination: Endpoint, segment_size: int = 0, ecn: int = 0
    ) -> bool:
        """See `DatagramSocket.send`; what is kept back counts as sent."""
        left = self._outgoing(data, segment_size)
        if left is None:
            return True
        return self._inner.send(left, destination, segment_size, ecn)

    async def wait_readable(self) -> None:
        """See `DatagramSocket.wait_readable`."""
        await self._inner.wait_readable()

    async def watch(self, on_readable: Callable[[], None]) -> NoReturn:
        """See `DatagramSocket.watch`."""
        await self._inner.watch(on_readable)

    async def wait_writable(self) -> None:
        """See `DatagramSocket.wait_writable`."""
        await self._inner.wait_writable()

    def close(self) -> None:
        """See `DatagramSocket.close`."""
        self._inner.close()

    def statistics(self) -> SocketStatistics:
        """See `DatagramSocket.statistics`; what was kept back is missing."""
        return self._inner.statistics()


class FilteredNetwork:
    """A `Network` with such sockets."""

    def __init__(
        self, inner: Network, wrap: Callable[[DatagramSocket], FilteredSocket]
    ) -> None:
        """Bind at ``inner``; each socket is put into what ``wrap`` makes of it."""
        self._inner = inner
        self._wrap = wrap

    async def bind(self, endpoint: Endpoint) -> DatagramSocket:
        """See `Network.bind`."""
        return self._wrap(await self._inner.bind(endpoint))

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
