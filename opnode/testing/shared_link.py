"""Several RUDP connections that share one slow link, with a virtual clock.

What a congestion controller is judged by: throughput, shares, and the queue that it
builds. Opens no socket; the same seed gives the same bytes.
"""

import heapq
import math
import random
from dataclasses import dataclass

from opnode.core.addresses import Endpoint
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.connection import RudpConnection
from opnode.protocols.rudp.events import ChannelReadable
from opnode.protocols.rudp.packet import Transmission
from opnode.testing.bottleneck import Bottleneck, BottleneckConfig
from opnode.testing.pair import seeded_keys

_WRITE = bytes(1 << 16)
_MAX_READ = 1 << 24
_CE = 3
# UDP payload of an Ethernet frame; what is larger vanishes, as with "don't fragment".
_MAX_DATAGRAM = 1472


@dataclass(slots=True)
class Flow:
    """A sender that always has more to send, and its receiver.

    Attributes:
        sender: Sends on one channel.
        receiver: Reads at once.
        channel: Number of the channel, once the flow has begun.
        received: Bytes of the channel that were read.
    """

    sender: RudpConnection
    receiver: RudpConnection
    begins_at: float
    channel: int | None = None
    received: int = 0


class SharedLink:
    """A bottleneck from all senders to all receivers; the way back is only long.

    Attributes:
        now: Virtual seconds.
        flows: In the order in which they were added.
        bottleneck: The link, with its counts.
        waits_s: How long each packet waited in the queue since ``take_waits``.
    """

    def __init__(
        self, config: BottleneckConfig, *, seed: int = 1, wakes_every_s: float = 0.0
    ) -> None:
        """Start without flows at second 0.

        Args:
            config: The link.
            seed: Of its losses and of the connections' dice.
            wakes_every_s: Senders are on a busy machine: they see what arrived, and
                their timers, only at multiples of this; 0 is at once.
        """
        self._wakes_every_s = wakes_every_s
        self.now = 0.0
        self.flows: list[Flow] = []
        self.bottleneck = Bottleneck(config, random.Random(seed))  # noqa: S311 - a simulated link
        self.waits_s: list[float] = []
        self._seed = seed
        self._order = 0
        self._in_flight: list[tuple[float, int, int, bool, bytes, int]] = []
        self._timers: dict[tuple[int, bool], float | None] = {}

    def add(self, config: RudpConfig, *, begins_at: float = 0.0) -> Flow:
        """Add a flow with its own connection."""
        index = len(self.flows)
        sender, receiver = (
            RudpConnection(
                initiator=initiator,
                keys=keys,
                config=config,
                rng=random.Random(1000 * self._seed + 2 * index + initiator),  # noqa: S311 - spreads probes
            )
            for initiator, keys in zip(
                (True, False), seeded_keys(1000 * self._seed + index), strict=True
            )
        )
        flow = Flow(sender, receiver, begins_at)
        self.flows.append(flow)
        for connection in (sender, receiver):
            connection.max_segments = 54
            connection.set_path(_endpoint(index, to=connection is sender), self.now)
        return flow

    def run_until(self, end_at: float) -> None:
        """Let virtual time pass."""
        for index, flow in enumerate(self.flows):
            for is_sender in (True, False):
                if (index, is_sender) not in self._timers:
                    self._timers[index, is_sender] = flow.begins_at
        while (at := self._next_at()) <= end_at:
            self.now = max(self.now, at)
            self._deliver()
            for (index, is_sender), timer in list(self._timers.items()):
                if self._seen_at(timer, by_sender=is_sender) <= self.now:
                    self._end(index, is_sender=is_sender).handle_deadline(self.now)
                    self._flush(index, is_sender=is_sender)
        self.now = end_at

    def take_received(self) -> list[int]:
        """Return the bytes that each flow received since the last call."""
        counts = [flow.received for flow in self.flows]
        for flow in self.flows:
            flow.received = 0
        return counts

    def _next_at(self) -> float:
        times = [
            self._seen_at(at, by_sender=is_sender)
            for (_, is_sender), at in self._timers.items()
        ]
        if self._in_flight:
            times.append(self._in_flight[0][0])
        return min(times, default=float("inf"))

    def _seen_at(self, at: float | None, *, by_sender: bool) -> float:
        """Return when an end gets to what is due at a time."""
        if at is None:
            return float("inf")
        every = self._wakes_every_s
        # Rounding must not let a wake-up miss what is due at that very moment.
        return math.ceil(at / every - 1e-9) * every if every and by_sender else at

    def _end(self, index: int, *, is_sender: bool) -> RudpConnection:
        flow = self.flows[index]
        return flow.sender if is_sender else flow.receiver

    def _deliver(self) -> None:
        while self._in_flight and self._in_flight[0][0] <= self.now:
            _, _, index, to_sender, data, ecn = heapq.heappop(self._in_flight)
            end = self._end(index, is_sender=to_sender)
            source = _endpoint(index, to=to_sender)
            end.receive_run(memoryview(data), len(data), source, self.now, ecn=ecn)
            self._flush(index, is_sender=to_sender)

    def _flush(self, index: int, *, is_sender: bool) -> None:
        """Do what a driver and its application do after a call."""
        flow, end = self.flows[index], self._end(index, is_sender=is_sender)
        if is_sender and self.now >= flow.begins_at:
            if flow.channel is None:
                flow.channel = end.open_channel(self.now)
            while end.send(flow.channel, _WRITE, self.now):
                pass
        while bursts := end.datagrams_to_send(self.now):
            for burst in bursts:
                self._put(index, burst, to_sender=not is_sender)
        while (event := end.next_event()) is not None:
            if isinstance(event, ChannelReadable):
                data = end.read(event.channel_id, _MAX_READ, self.now)
                flow.received += len(data or b"")
        self._timers[index, is_sender] = end.next_deadline()

    def _put(self, index: int, burst: Transmission, *, to_sender: bool) -> None:
        size, link = burst.segment_size, self.bottleneck
        for start in range(0, len(burst.data), size):
            data = burst.data[start : start + size]
            if len(data) > _MAX_DATAGRAM:
                continue
            ecn = burst.ecn
            arrives_at: float | None = self.now + link.config.delay_s
            if not to_sender:
                wait_s = link.waiting_s(self.now)
                if ecn and link.wants_mark(self.now):
                    ecn = _CE
                arrives_at = link.arrives_at(len(data), self.now)
                self.waits_s.append(wait_s)
            if arrives_at is None:
                continue
            arrives_at = self._seen_at(arrives_at, by_sender=to_sender)
            self._order += 1
            heapq.heappush(
                self._in_flight,
                (arrives_at, self._order, index, to_sender, data, ecn),
            )


def jain(shares: list[int]) -> float:
    """Return Jain's index of fairness: 1 when all are equal, 1/n when one has all."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0


def _endpoint(index: int, *, to: bool) -> Endpoint:
    """Return where one end of a flow is reached by the other."""
    return Endpoint("192.0.2.1" if to else "192.0.2.2", 4000 + index)
