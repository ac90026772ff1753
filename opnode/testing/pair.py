"""Two RUDP connections on a virtual link with a virtual clock; opens no socket.

The link delays, loses, reorders and duplicates packets by the given seed, so the same
test gives the same bytes on every run.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from opnode.core.addresses import Endpoint
from opnode.core.crypto import TransportKeys, sha256
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.connection import RudpConnection
from opnode.protocols.rudp.events import Event
from opnode.protocols.rudp.packet import Transmission
from opnode.testing.keys import SeededKem

_HOSTS = (Endpoint("192.0.2.1", 4001), Endpoint("192.0.2.2", 4002))
# Steps in which a driver may do nothing new before the test is told that it hangs.
_MAX_STEPS = 200_000
# Packets that the kernel joins at most (UDP_GRO).
_MAX_RUN = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkConfig:
    """What the link does to each packet, in both directions.

    Attributes:
        latency_s: One way.
        jitter_s: Added uniformly from 0 on; packets overtake each other.
        loss: Share of packets lost, 0 to 1.
        duplication: Share of packets that arrive twice.
        rate_Bps: Bytes per second that fit through; 0 is no limit.
        queue_bytes: Bytes that wait for their turn before more are lost.
        mtu: The largest packet that passes, in bytes of UDP payload; larger ones are
            lost without a word. 1472 is what Ethernet leaves.
    """

    latency_s: float = 0.01
    jitter_s: float = 0.0
    loss: float = 0.0
    duplication: float = 0.0
    rate_Bps: float = 0.0  # noqa: N815 - units come last, and a byte is a capital B
    queue_bytes: int = 256 * 1024
    mtu: int = 1472


def seeded_keys(seed: int = 1) -> tuple[TransportKeys, TransportKeys]:
    """Return matching keys of an initiator and a responder."""
    text = seed.to_bytes(8, "big")
    first, second = sha256(b"to responder", text), sha256(b"to initiator", text)
    shared = sha256(b"handshake", text)
    return TransportKeys(first, second, shared), TransportKeys(second, first, shared)


class End:
    """One side of a pair: its connection and what happened to it.

    Attributes:
        connection: What is tested.
        endpoint: Its address, at which it is reached and from which it sends.
        routes: Destinations that it sends to from another address of its own, at
            which it is reached, too.
        events: What it told so far.
    """

    def __init__(self, connection: RudpConnection, endpoint: Endpoint) -> None:
        """Wrap a connection that is reached at `endpoint`."""
        self.connection = connection
        self.endpoint = endpoint
        self.routes: dict[Endpoint, Endpoint] = {}
        self.events: list[Event] = []

    def is_at(self, endpoint: Endpoint) -> bool:
        """Whether packets to this address arrive here."""
        return endpoint == self.endpoint or endpoint in self.routes.values()

    def events_of(self, kind: type[Event]) -> list[Event]:
        """Return the events of one kind that happened so far, oldest first."""
        return [event for event in self.events if isinstance(event, kind)]


class Pair:
    """Two ends and the packets between them.

    Attributes:
        a: The initiator.
        b: The responder.
        now: Virtual seconds.
        link: May be replaced at any time.
        links: Links of their own for packets from or to an address.
        dead: Addresses from and to which nothing passes.
        carried: Bytes delivered, by source and destination.
        on_transmission: Sees every burst before the link does; what it returns goes
            on, so a test can drop, change or record packets.
    """

    def __init__(
        self,
        *,
        link: LinkConfig | None = None,
        config: RudpConfig | None = None,
        seed: int = 1,
        max_segments: int = 54,
        connect: bool = True,
    ) -> None:
        """Build both ends.

        Args:
            link: Behaviour of the link.
            config: Settings of both ends.
            seed: Of the keys and of the link's dice.
            max_segments: Largest burst of both ends.
            connect: Whether both are given their paths.
        """
        self.now = 100.0
        self.link = link or LinkConfig()
        self.on_transmission: Callable[[End, Transmission], list[bytes]] = _segments
        self.links: dict[Endpoint, LinkConfig] = {}
        self.dead: set[Endpoint] = set()
        self.carried: Counter[tuple[Endpoint, Endpoint]] = Counter()
        self.packets_lost = 0
        self._dice = random.Random(seed)  # noqa: S311 - a simulated link
        self._in_flight: list[tuple[float, int, Endpoint, Endpoint, bytes]] = []
        self._order = 0
        self._free_at: dict[Endpoint, float] = {}
        ends = [
            End(
                RudpConnection(
                    initiator=initiator,
                    keys=keys,
                    config=config or RudpConfig(),
                    rng=random.Random(2 * seed + initiator),  # noqa: S311 - spreads keep-alives
                    kem=SeededKem(f"{seed} {initiator}"),
                ),
                endpoint,
            )
            for initiator, keys, endpoint in zip(
                (True, False), seeded_keys(seed), _HOSTS, strict=True
            )
        ]
        self.a, self.b = ends
        for end in ends:
            end.connection.max_segments = max_segments
        if connect:
            self.a.connection.set_path(self.b.endpoint, self.now)
            self.b.connection.set_path(self.a.endpoint, self.now)

    def flush(self) -> None:
        """Do what a driver does after a call: take bursts and events of both ends."""
        for end in (self.a, self.b):
            while bursts := end.connection.datagrams_to_send(self.now):
                for burst in bursts:
                    for data in self.on_transmission(end, burst):
                        to = burst.destination
                        source = end.routes.get(to, end.endpoint)
                        self.put_on_link(source, to, data)
            while (event := end.connection.next_event()) is not None:
                end.events.append(event)

    def rebind(self, end: End, endpoint: Endpoint) -> None:
        """Give an end another address, as a NAT does that has forgotten it.

        What is on its way to the old address is lost.
        """
        end.endpoint = endpoint

    def add_way(self, link: LinkConfig | None = None) -> tuple[Endpoint, Endpoint]:
        """Give both ends one more address, with a link between the two.

        Returns:
            The new addresses of `a` and of `b`; neither connection knows of them.
        """
        number = 10 + len(self.a.routes)
        ours = Endpoint(f"203.0.113.{number}", 4001)
        theirs = Endpoint(f"203.0.113.{100 + number}", 4002)
        self.a.routes[theirs] = ours
        self.b.routes[ours] = theirs
        self.links[ours] = link or self.link
        return ours, theirs

    def put_on_link(self, source: Endpoint, destination: Endpoint, data: bytes) -> None:
        """Send a packet through the link, as if `source` had sent it."""
        link = self.links.get(source) or self.links.get(destination) or self.link
        dice = self._dice
        copies = 2 if dice.random() < link.duplication else 1
        for _ in range(copies):
            if dice.random() < link.loss or len(data) > link.mtu:
                self.packets_lost += 1
                continue
            leaves_at = self._take_turn(link, source, len(data))
            if leaves_at is None:
                self.packets_lost += 1
                continue
            delay = link.latency_s + link.jitter_s * dice.random()
            self._order += 1
            heapq.heappush(
                self._in_flight,
                (leaves_at + delay, self._order, source, destination, data),
            )

    def step(self) -> bool:
        """Go to the next arrival or deadline; false when there is none."""
        self.flush()
        times = [self._in_flight[0][0]] if self._in_flight else []
        for end in (self.a, self.b):
            deadline = end.connection.next_deadline()
            if deadline is not None:
                times.append(deadline)
        if not times:
            return False
        self.now = max(self.now, min(times))
        self._deliver()
        for end in (self.a, self.b):
            end.connection.handle_deadline(self.now)
        self.flush()
        return True

    def drive(self, until: Callable[[], bool], *, within_s: float = 60.0) -> None:
        """Step until a condition holds.

        Raises:
            AssertionError: It does not hold within that much virtual time.
        """
        end_at = self.now + within_s
        self.flush()
        for _ in range(_MAX_STEPS):
            if until():
                return
            if not self.step() or self.now > end_at:
                break
        if not until():
            raise AssertionError(f"did not come true within {within_s} virtual seconds")

    def run_for(self, duration_s: float) -> None:
        """Let virtual time pass."""
        end_at = self.now + duration_s
        self.flush()
        while True:
            times = [self._in_flight[0][0]] if self._in_flight else []
            for end in (self.a, self.b):
                deadline = end.connection.next_deadline()
                if deadline is not None:
                    times.append(deadline)
            if not times or min(times) > end_at:
                break
            self.step()
        self.now = end_at

    def _take_turn(self, link: LinkConfig, source: Endpoint, size: int) -> float | None:
        """Return when a packet has left the link, None when its queue is full."""
        rate = link.rate_Bps
        if not rate:
            return self.now
        begins_at = max(self._free_at.get(source, 0.0), self.now)
        if (begins_at - self.now) * rate > link.queue_bytes:
            return None
        self._free_at[source] = begins_at + size / rate
        return self._free_at[source]

    def _deliver(self) -> None:
        """Hand over everything that has arrived by now, as runs of equal packets."""
        while self._in_flight and self._in_flight[0][0] <= self.now:
            _, _, source, destination, data = heapq.heappop(self._in_flight)
            run = [data]
            while self._joins(run, source, destination):
                run.append(heapq.heappop(self._in_flight)[4])
            if source in self.dead or destination in self.dead:
                self.packets_lost += len(run)
                continue
            for end in (self.a, self.b):
                if end.is_at(destination):
                    self.carried[source, destination] += sum(map(len, run))
                    end.connection.receive_run(
                        memoryview(b"".join(run)), len(data), source, self.now
                    )

    def _joins(self, run: list[bytes], source: Endpoint, destination: Endpoint) -> bool:
        """Tell whether the kernel would join the next packet to a run (GRO)."""
        if not self._in_flight or len(run) >= _MAX_RUN or len(run[-1]) < len(run[0]):
            return False
        at, _, its_source, its_destination, data = self._in_flight[0]
        same_way = (its_source, its_destination) == (source, destination)
        return at <= self.now and same_way and len(data) <= len(run[0])


def _segments(_end: End, burst: Transmission) -> list[bytes]:
    """Cut a burst into packets, as the kernel does (GSO)."""
    size = burst.segment_size
    return [burst.data[at : at + size] for at in range(0, len(burst.data), size)]
