"""One direction of a link: its rate, its queue, its length and its losses.

Owns the arithmetic of one drop-tail queue in front of a wire. Refuses to know what the
packets are, which clock runs, and who carries them; real and virtual links share it.
"""

import random
from dataclasses import dataclass

from opnode.core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class BottleneckConfig:
    """What a direction of a link is like.

    Attributes:
        rate_Bps: Bytes per second that fit through.
        delay_s: One way, without the wait in the queue.
        queue_bytes: Bytes that wait for their turn; packets beyond are dropped.
        loss: Share of the packets that are lost on the wire, 0 to 1.
        mark_bytes: Packets that find more than this in the queue are to be marked (ECN,
            RFC 3168); 0 marks none.
    """

    rate_Bps: float  # noqa: N815 - units come last, and a byte is a capital B
    delay_s: float
    queue_bytes: int
    loss: float = 0.0
    mark_bytes: int = 0

    def __post_init__(self) -> None:
        """Refuse links that cannot be.

        Raises:
            ConfigError: Names the field.
        """
        if self.rate_Bps <= 0:
            raise ConfigError("rate_Bps", self.rate_Bps, "more than 0")
        if self.delay_s < 0:
            raise ConfigError("delay_s", self.delay_s, "at least 0")
        if self.queue_bytes < 0:
            raise ConfigError("queue_bytes", self.queue_bytes, "at least 0")
        if not 0 <= self.loss <= 1:
            raise ConfigError("loss", self.loss, "a probability from 0 to 1")


def bandwidth_delay_bytes(rate_Bps: float, rtt_s: float) -> int:  # noqa: N803 - as above
    """Bytes that are on their way when a link is full and its queue is empty."""
    return round(rate_Bps * rtt_s)


class Bottleneck:
    """A queue that drains at a constant rate into a wire of constant length.

    Attributes:
        carried_bytes: What the queue took in, lost on the wire or not.
        carried: Packets that it took in.
        dropped: Packets that found the queue full.
        lost: Packets that the wire lost.
        marked: Packets that were marked.
    """

    __slots__ = (
        "_free_at",
        "_rng",
        "carried",
        "carried_bytes",
        "config",
        "dropped",
        "lost",
        "marked",
    )

    def __init__(self, config: BottleneckConfig, rng: random.Random) -> None:
        """Start with an empty queue; `rng` decides which packets the wire loses."""
        self.config = config
        self.carried = self.carried_bytes = 0
        self.dropped = self.lost = self.marked = 0
        self._rng = rng
        self._free_at = float("-inf")

    def waiting_s(self, now: float) -> float:
        """How long a packet that comes now waits for its turn, in seconds."""
        return max(self._free_at - now, 0.0)

    def departed_bytes(self, now: float) -> float:
        """What has left the queue by now: all that was taken in, less what waits."""
        return self.carried_bytes - self.waiting_s(now) * self.config.rate_Bps

    def wants_mark(self, now: float) -> bool:
        """Whether a packet that comes now is to be marked; counts it."""
        threshold = self.config.mark_bytes
        if not threshold or self.waiting_s(now) * self.config.rate_Bps <= threshold:
            return False
        self.marked += 1
        return True

    def arrives_at(self, size: int, now: float) -> float | None:
        """Send a packet of `size` bytes; when it arrives, None when it never does."""
        config = self.config
        begins_at = max(self._free_at, now)
        if (begins_at - now) * config.rate_Bps + size > config.queue_bytes:
            self.dropped += 1
            return None
        self._free_at = begins_at + size / config.rate_Bps
        self.carried += 1
        self.carried_bytes += size
        if config.loss and self._rng.random() < config.loss:
            self.lost += 1
            return None
        return self._free_at + config.delay_s
