"""A network that loses packets at random on top of another one, real or virtual.

Owns which datagrams vanish, each by itself also inside of a run. Refuses to delay or
reorder anything: `opnode.testing.virtual_network` does that.
"""

import math
import random

from opnode.core.errors import ConfigError
from opnode.drivers.network.network import Buffer, DatagramSocket, Network
from opnode.testing.filtered_network import FilteredNetwork, FilteredSocket


class LossyNetwork(FilteredNetwork):
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
        super().__init__(inner, lambda socket: LossySocket(socket, rng, loss))


class LossySocket(FilteredSocket):
    """A `DatagramSocket` that loses datagrams both ways."""

    def __init__(self, inner: DatagramSocket, rng: random.Random, loss: float) -> None:
        """See `LossyNetwork`."""
        self._out = _Losses(rng, loss)
        self._in = _Losses(rng, loss)
        super().__init__(inner, outgoing=self._out.remove, incoming=self._in.remove)

    @property
    def lost(self) -> int:
        """Datagrams lost so far, both ways."""
        return self._out.count + self._in.count


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
