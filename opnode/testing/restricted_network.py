"""A host behind a port-restricted filter: only who was sent something gets through.

Owns the memory of whom the host sent to. Addresses are not translated: that alone
decides nothing about who reaches whom (RFC 4787 §5).
"""

from typing import Final

import trio

from opnode.core.addresses import Endpoint
from opnode.drivers.network import Buffer, DatagramSocket, Network, Received

FORGETS_AFTER_S: Final = 120.0
"""Seconds without a datagram to somebody until nothing of it is let in any more."""


class RestrictedSocket:
    """A socket whose datagrams pass the filter; all else is the wrapped one's."""

    def __init__(self, socket: DatagramSocket) -> None:
        self.dropped = 0
        self._socket = socket
        self._sent_at: dict[Endpoint, float] = {}
        self.local = socket.local
        self.max_segments = socket.max_segments
        self.wait_readable = socket.wait_readable
        self.wait_writable = socket.wait_writable
        self.close = socket.close
        self.statistics = socket.statistics

    def send(
        self, data: Buffer, destination: Endpoint, segment_size: int = 0, ecn: int = 0
    ) -> bool:
        """See `DatagramSocket.send`."""
        self._sent_at[destination] = trio.current_time()
        return self._socket.send(data, destination, segment_size, ecn)

    def receive(self) -> Received | None:
        """See `DatagramSocket.receive`; drops what strangers sent."""
        while (received := self._socket.receive()) is not None:
            sent_at = self._sent_at.get(received.source)
            if sent_at is not None and trio.current_time() < sent_at + FORGETS_AFTER_S:
                return received
            self.dropped += 1
        return None


class RestrictedNetwork:
    """A network behind such a filter."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.interface_addresses = network.interface_addresses
        self.has_route = network.has_route
        self.resolve = network.resolve

    async def bind(self, endpoint: Endpoint) -> DatagramSocket:
        """See `Network.bind`."""
        return RestrictedSocket(await self._network.bind(endpoint))
