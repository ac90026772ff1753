"""A link between two network namespaces: rate, queue, delay and loss in user space.

``python -m benchmarks.link_emulator SETTINGS`` (a `LinkSpec` as JSON): prints where the
two namespaces are, carries packets until its input ends, then prints what it carried.
Owns the way of a packet from one TUN device to the other. Refuses to know what is sent.

Time is the kernel's clock at the moment a packet is read, and what leaves the queue is
computed, so a late wake-up costs accuracy only while the queue is empty. The process
asks for real-time scheduling, as other load on the machine must not become jitter.
"""

import contextlib
import json
import os
import random
import select
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass

from benchmarks.figures import BenchmarkError
from benchmarks.namespaces import Host, become_punctual, new_host
from opnode.testing.bottleneck import (
    Bottleneck,
    BottleneckConfig,
    bandwidth_delay_bytes,
)

SENDER, RECEIVER = "10.77.0.1", "10.77.0.2"
MTU = 1500
PRIORITY = 2
"""Real-time: the link goes before the ends."""
BUCKET_S = 0.01
"""The queue is sampled per bucket: its longest wait and the bytes that left."""
# A device is read this often before the other one has its turn.
_READS = 256
# Every arrival is up to this late: two packets of a link of 100 Mbit/s.
_TICK_S = 0.0002


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSpec:
    """A link as a benchmark asks for it.

    Attributes:
        mbit: Megabits per second, of IP packets.
        rtt_s: Round trip with an empty queue, seconds.
        buffer_bdp: The queue, in bandwidth-delay products.
        loss: Share lost at random in the direction of the data.
        mark_share: Share of the queue above which packets are ECN-marked; 0 is never.
        seed: Of the losses.
    """

    mbit: float = 100.0
    rtt_s: float = 0.05
    buffer_bdp: float = 1.0
    loss: float = 0.0
    mark_share: float = 0.0
    seed: int = 1

    @property
    def rate_bytes_per_s(self) -> float:
        """What fits through."""
        return self.mbit * 1e6 / 8

    def forward(self) -> BottleneckConfig:
        """The direction of the data."""
        bdp = bandwidth_delay_bytes(self.rate_bytes_per_s, self.rtt_s)
        queue = max(int(bdp * self.buffer_bdp), 2 * MTU)
        return BottleneckConfig(
            rate_Bps=self.rate_bytes_per_s,
            delay_s=self.rtt_s / 2,
            queue_bytes=queue,
            loss=self.loss,
            mark_bytes=int(queue * self.mark_share),
        )

    def backward(self) -> BottleneckConfig:
        """The direction of the acknowledgements: as fast, and it loses nothing."""
        bdp = bandwidth_delay_bytes(self.rate_bytes_per_s, self.rtt_s)
        return BottleneckConfig(
            rate_Bps=self.rate_bytes_per_s,
            delay_s=self.rtt_s / 2,
            queue_bytes=max(bdp, 64 * MTU),
        )


class QueueTrace:
    """How long the queue was, bucket by bucket."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, float, float]] = []
        self._ends_at = 0.0
        self._longest_s = 0.0
        self._carried = 0.0

    def note(self, waiting_s: float, carried_bytes: float, now: float) -> None:
        """A packet came and found this."""
        if now >= self._ends_at:
            if self._ends_at:
                self._rows.append((self._ends_at, self._longest_s, self._carried))
            self._ends_at = now + BUCKET_S
            self._longest_s = 0.0
        self._longest_s = max(self._longest_s, waiting_s)
        self._carried = carried_bytes

    def rows(self) -> list[tuple[float, float, float]]:
        """Time, longest wait in seconds, bytes carried so far."""
        return [*self._rows, (self._ends_at, self._longest_s, self._carried)]


class Direction:
    """From one device through a bottleneck to the other."""

    def __init__(
        self, source: int, target: int, config: BottleneckConfig, seed: int
    ) -> None:
        self.source = source
        self.bottleneck = Bottleneck(config, random.Random(seed))
        self.trace = QueueTrace()
        self.late_s = 0.0
        self._target = target
        self._in_flight: deque[tuple[float, bytes]] = deque()

    @property
    def is_busy(self) -> bool:
        """Whether packets are on their way."""
        return bool(self._in_flight)

    def take_in(self) -> None:
        """Read what the device has. Hot: 10 000 packets a second, so kept plain."""
        bottleneck, in_flight, source = self.bottleneck, self._in_flight, self.source
        for _ in range(_READS):
            try:
                packet = os.read(source, 2048)
            except BlockingIOError:
                return
            if packet[0] >> 4 != 4:  # noqa: PLR2004 - the kernel's own IPv6 chatter
                continue
            now = time.perf_counter()
            waiting_s = bottleneck.waiting_s(now)
            if packet[1] & 3 and bottleneck.wants_mark(now):
                packet = marked(packet)
            arrives_at = bottleneck.arrives_at(len(packet), now)
            self.trace.note(waiting_s, bottleneck.departed_bytes(now), now)
            if arrives_at is not None:
                in_flight.append((arrives_at, packet))

    def hand_over(self, now: float) -> None:
        """Write what has arrived by now."""
        in_flight, target = self._in_flight, self._target
        if in_flight:
            self.late_s = max(self.late_s, now - in_flight[0][0])
        while in_flight and in_flight[0][0] <= now:
            # A namespace that is being taken down refuses packets: they are lost.
            with contextlib.suppress(OSError):
                os.write(target, in_flight.popleft()[1])


def marked(packet: bytes) -> bytes:
    """An IPv4 packet with the codepoint CE (RFC 3168 §5) and its checksum."""
    before = int.from_bytes(packet[:2], "big")
    after = before | 3
    # RFC 1624 §3: the checksum changes by the difference of the word.
    total = (
        (~int.from_bytes(packet[10:12], "big") & 0xFFFF) + (~before & 0xFFFF) + after
    )
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    changed = (~total & 0xFFFF).to_bytes(2, "big")
    return after.to_bytes(2, "big") + packet[2:10] + changed + packet[12:]


def carry(directions: tuple[Direction, Direction], until_readable: int) -> None:
    """Move packets until the descriptor has something to read.

    While packets are on their way the devices are looked at every tick: one wake-up
    per packet would cost a third of a processor at 100 Mbit/s.
    """
    sources = [direction.source for direction in directions]
    while True:
        busy = any(direction.is_busy for direction in directions)
        waits_for = [until_readable] if busy else [until_readable, *sources]
        readable, _, _ = select.select(waits_for, [], [], _TICK_S if busy else None)
        if until_readable in readable:
            return
        for direction in directions:
            direction.take_in()
            direction.hand_over(time.monotonic())  # noqa: TID251 - as above


def open_link(spec: LinkSpec) -> tuple[Host, Host, tuple[Direction, Direction]]:
    """Both namespaces and both directions between them."""
    sender, receiver = new_host(SENDER, MTU), new_host(RECEIVER, MTU)
    there = Direction(sender.tun, receiver.tun, spec.forward(), spec.seed)
    back = Direction(receiver.tun, sender.tun, spec.backward(), spec.seed + 1)
    return sender, receiver, (there, back)


def main() -> None:
    """Open the link, tell where, carry, tell what."""
    spec = LinkSpec(**json.loads(sys.argv[1]))
    try:
        sender, receiver, directions = open_link(spec)
    except BenchmarkError as failure:
        print(json.dumps({"failure": str(failure)}), flush=True)
        sys.exit(1)
    become_punctual(PRIORITY)
    here = f"/proc/{os.getpid()}/fd"
    places = {
        "sender": f"{here}/{sender.namespace}",
        "receiver": f"{here}/{receiver.namespace}",
    }
    print(json.dumps(places), flush=True)
    cpu_at, wall_at = time.process_time(), time.perf_counter()
    carry(directions, sys.stdin.fileno())
    there, back = directions
    account = {
        "spec": asdict(spec),
        "trace": there.trace.rows(),
        "carried": there.bottleneck.carried,
        "carried_bytes": there.bottleneck.carried_bytes,
        "dropped": there.bottleneck.dropped,
        "lost": there.bottleneck.lost,
        "marked": there.bottleneck.marked,
        "backward_dropped": back.bottleneck.dropped,
        "late_ms": 1000 * max(there.late_s, back.late_s),
        "cpu_share": (time.process_time() - cpu_at) / (time.perf_counter() - wall_at),
    }
    print(json.dumps(account), flush=True)


if __name__ == "__main__":
    main()
