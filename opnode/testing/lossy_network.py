"""A network that loses packets at random on top of another one, real or virtual.

Owns which datagrams vanish, each by itself also inside of a run. Refuses to delay or
reorder anything: `opnode.testing.virtual_network` does that.
"""

import math
import random

from opnode.core.addresses import Endpoint
from opnode.core.errors import ConfigError
from opnode.core.interfaces import InterfaceAddress
from opnode.drivers.network.changes import Addresses
from opnode.drivers.network.network import (
    Buffer,
    DatagramSocket,
    Network,
    Received,
    SocketStatistics,
)


class LossyNetwork:
    """A `Network` whose sockets lose what they send and what they receive."""

    def __init__(self, inner: Network, rng: random.Random, loss: float) -> None:
        """Lose with the same probability in both directions.

        Args:
            inner: Carries what is not lost.
            rng: Decides which datagrams are lost.
            loss: Probability of a datagram, 0 to below 1.

        Raises:
            ConfigError: The probability is none, or nothing would be left.
        """
        if not 0 <= loss < 1:
            raise ConfigError("loss", loss, "a probability from 0 to below 1")
        self._inner = inner
        self._rng = rng
        self._loss = loss

    async def bind(self, endpoint: Endpoint) -> DatagramSocket:
        """See `Network.bind`."""
        return LossySocket(await self._inner.bind(endpoint), self._rng, self._loss)

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


class LossySocket:
    """A `DatagramSocket` that loses datagrams both ways."""

    def __init__(self, inner: DatagramSocket, rng: random.Random, loss: float) -> None:
        """See `LossyNetwork`."""
        self._inner = inner
        self._out = _Losses(rng, loss)
        self._in = _Losses(rng, loss)

    @property
    def local(self) -> Endpoint:
        """See `DatagramSocket.local`."""
        return self._inner.local

    @property
    def max_segments(self) -> int:
        """See `DatagramSocket.max_segments`."""
        return self._inner.max_segments

    @property
    def lost(self) -> int:
        """Datagrams lost so far, both ways."""
        return self._out.count + self._in.count

    def receive(self) -> Received | None:
        """See `DatagramSocket.receive`."""
        while (received := self._inner.receive()) is not None:
            buffer, segment_size, source, ecn = received
            left = self._in.remove(buffer, segment_size)
            if left is None:
                continue
            return Received(memoryview(left), segment_size, source, ecn)
        return None

    def send(
        self, data: Buffer, destination: Endpoint, segment_size: int = 0, ecn: int = 0
    ) -> bool:
        """See `DatagramSocket.send`."""
        left = self._out.remove(data, segment_size)
        if left is None:
            return True
        return self._inner.send(left, destination, segment_size, ecn)

    async def wait_readable(self) -> None:
        """See `DatagramSocket.wait_readable`."""
        await self._inner.wait_readable()

    async def wait_writable(self) -> None:
        """See `DatagramSocket.wait_writable`."""
        await self._inner.wait_writable()

    def close(self) -> None:
        """See `DatagramSocket.close`."""
        self._inner.close()

    def statistics(self) -> SocketStatistics:
        """See `DatagramSocket.statistics`; what was lost on its way out is missing."""
        return self._inner.statistics()


class _Losses:
    """Draws the distance to the next loss, so that most runs cost one comparison."""

    def __init__(self, rng: random.Random, loss: float) -> None:
        self.count = 0
        self._rng = rng
        self._loss = loss
        self._distance = self._draw()

    def remove(self, data: Buffer, segment_size: int) -> Buffer | None:
        """The run without what is lost, None when nothing is left."""
        total = -(-len(data) // segment_size) if segment_size and data else 1
        if self._distance >= total:
            self._distance -= total
            return data
        view, size = memoryview(data), segment_size or len(data)
        # Whole stretches, not packets: a benchmark pays for what is lost here.
        kept, start = [], 0
        while self._distance < total:
            kept.append(view[start * size : (start + self._distance) * size])
            start += self._distance + 1
            total -= self._distance + 1
            self._distance = self._draw()
            self.count += 1
        self._distance -= total
        kept.append(view[start * size :])
        return b"".join(kept) or None

    def _draw(self) -> int:
        if not self._loss:
            return 1 << 62
        # Geometric: how many arrive before the next one that does not.
        return int(math.log(1 - self._rng.random()) / math.log(1 - self._loss))
