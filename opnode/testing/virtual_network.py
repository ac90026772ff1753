"""A network in memory on trio's clock: the fake behind `opnode.drivers.network`.

Owns the journey of datagrams between virtual hosts (latency, jitter, loss, reordering,
duplication, partitions) and a digest of everything sent. Refuses to know what the
datagrams mean. It has no task of its own: a waiting socket sleeps until its next
datagram arrives, so it works under any trio clock, and with the same seed, the same
sends and a deterministic scheduler (`opnode.testing.clock`) the digest is the same.
"""

import hashlib
import heapq
import ipaddress
import math
import random
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import ConfigError, NetworkError
from opnode.core.interfaces import InterfaceAddress
from opnode.drivers.network import (
    Buffer,
    DatagramSocket,
    Received,
    SocketStatistics,
    segments_of,
)

_FIRST_EPHEMERAL_PORT = 49_152
_LAST_PORT = 65_535
_MAX_DATAGRAM = 65_507
_MAX_SEGMENTS = 64
_IPV4_SUBNET, _IPV6_SUBNET = 24, 64
_CE = 3
# Like a kernel: what does not fit into the receive buffer is dropped.
_RECEIVE_BUFFER_BYTES = 8 << 20
# Flows whose order is remembered; beyond it those that are in the past are forgotten.
_MAX_FLOWS = 50_000
_TRACE = struct.Struct("!dHHII")
_WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, never bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How datagrams travel between any two hosts.

    Jitter alone never reorders the datagrams between two sockets; `reorder` does.
    """

    # Uniform between low and high, per datagram.
    latency_s: tuple[float, float] = (0.0, 0.0)
    # Probabilities per datagram, 0 to 1.
    loss: float = 0.0
    duplicate: float = 0.0
    # A reordered datagram arrives later by up to one more latency (at least 1 ms).
    reorder: float = 0.0
    # Bottleneck between two sockets; datagrams that would wait longer are dropped.
    bytes_per_s: float = math.inf
    queue_s: float = 0.1
    # Datagrams with an ECN codepoint that would wait longer are marked CE (RFC 3168).
    mark_queue_s: float = math.inf
    # Probability that a router on the way clears the ECN codepoint.
    bleach: float = 0.0
    # UDP payload of the largest datagram; larger ones vanish, nobody is told.
    max_datagram: int = _MAX_DATAGRAM
    # Arrivals are put off to a multiple of this, so that many share one wake-up of the
    # clock: a sixth less CPU for days of many nodes, where milliseconds do not count.
    grain_s: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.latency_s
        if not 0 <= low <= high:
            raise ConfigError("latency_s", f"({low}, {high})", "0 <= low <= high")
        for name in ("loss", "duplicate", "reorder", "bleach"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(name, str(value), "a probability from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualNetworkStatistics:
    """What became of the datagrams so far."""

    sent: int = 0
    delivered: int = 0
    lost: int = 0
    duplicated: int = 0
    cut: int = 0
    too_large: int = 0
    marked: int = 0
    nobody_there: int = 0


class _Arrival(NamedTuple):
    """A datagram in flight or arrived; sorts by time, then by its running number."""

    at: float
    order: int
    data: bytes
    source: Endpoint
    ecn: int


class _Flow:
    """Order and queue of the datagrams from one socket to another."""

    __slots__ = ("idle_at", "last_at", "waited_s")

    def __init__(self) -> None:
        self.last_at = -math.inf
        self.idle_at = -math.inf
        # How long the last datagram waits at the bottleneck.
        self.waited_s = 0.0


class VirtualNetwork:
    """Hosts and the wires between them.

    Args:
        rng: decides every latency, loss, duplicate and reordering.
        link: the properties of all wires; may be replaced at any time.
    """

    def __init__(self, rng: random.Random, link: Link | None = None) -> None:
        self.link = link or Link()
        self._rng = rng
        self._hosts: dict[str, VirtualHost] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        self._sockets: dict[Endpoint, VirtualSocket] = {}
        self._flows: dict[tuple[Endpoint, Endpoint], _Flow] = {}
        self._partitions: list[tuple[frozenset[str], frozenset[str]]] = []
        self._dead: set[str] = set()
        self._trace = hashlib.sha256()
        self._started_at: float | None = None
        self._order = 0
        self._sent = self._delivered = self._lost = 0
        self._duplicated = self._cut = self._nobody_there = 0
        self._too_large = self._marked = 0

    def host(self, address: str) -> "VirtualHost":
        """The host with this numeric address, made when it is asked for first."""
        canonical = str(ipaddress.ip_address(address))
        if canonical not in self._hosts:
            self._hosts[canonical] = VirtualHost(self, canonical)
        return self._hosts[canonical]

    def add_name(self, name: str, *addresses: str) -> None:
        """Let `resolve` answer `name` with these addresses."""
        self._names[name] = addresses

    def partition(self, group_a: Iterable[str], group_b: Iterable[str]) -> None:
        """Cut both directions between two groups of addresses, until `heal`."""
        self._partitions.append((frozenset(group_a), frozenset(group_b)))

    def heal(self) -> None:
        """Undo all partitions; killed hosts stay dead."""
        self._partitions.clear()

    def kill(self, address: str) -> None:
        """Make a host a black hole, also for what is on its way to it."""
        self._dead.add(address)
        for endpoint, sock in self._sockets.items():
            if endpoint.host == address:
                sock.forget_arrivals()

    def revive(self, address: str) -> None:
        """Connect a killed host again."""
        self._dead.discard(address)

    def trace_digest(self) -> str:
        """SHA-256 over time, source, destination, size and CRC of all sent so far."""
        return self._trace.hexdigest()

    def statistics(self) -> VirtualNetworkStatistics:
        """Read the counters."""
        return VirtualNetworkStatistics(
            sent=self._sent,
            delivered=self._delivered,
            lost=self._lost,
            duplicated=self._duplicated,
            cut=self._cut,
            too_large=self._too_large,
            marked=self._marked,
            nobody_there=self._nobody_there,
        )

    def attach(self, host: str, port: int) -> "VirtualSocket":
        """Make a socket; `VirtualHost.bind` is the public way to it."""
        endpoint = Endpoint(host, port or self._free_port(host))
        if endpoint in self._sockets:
            raise ConfigError("listen", f"{endpoint} (in use)", "a free UDP port")
        self._sockets[endpoint] = VirtualSocket(self, endpoint)
        return self._sockets[endpoint]

    def detach(self, endpoint: Endpoint) -> None:
        """Forget a closed socket."""
        del self._sockets[endpoint]

    def addresses_of(self, name: str) -> tuple[str, ...]:
        """Addresses given to `add_name`, or none."""
        return self._names.get(name, ())

    def carry(
        self, data: bytes, source: Endpoint, destination: Endpoint, ecn: int = 0
    ) -> None:
        """Send one datagram on its way. Hot: about 100 000 a second, so kept plain."""
        now = trio.current_time()
        if self._started_at is None:
            self._started_at = now
        self._sent += 1
        self._trace.update(
            _TRACE.pack(
                now - self._started_at,
                source.port,
                destination.port,
                len(data),
                zlib.crc32(data),
            )
            + f"{source.host}>{destination.host}".encode()
        )
        if self._is_cut(source.host, destination.host):
            self._cut += 1
            return
        target = self._sockets.get(destination)
        if target is None:
            self._nobody_there += 1
            return
        link, rng = self.link, self._rng
        if link.loss and rng.random() < link.loss:
            self._lost += 1
            return
        if len(data) > link.max_datagram:
            self._too_large += 1
            return
        if ecn and link.bleach and rng.random() < link.bleach:
            ecn = 0
        flow = self._flow(source, destination, now)
        arrives_at = self._arrival(len(data), flow, now)
        if arrives_at is None:
            self._lost += 1
            return
        if ecn and flow.waited_s > link.mark_queue_s:
            ecn = _CE
            self._marked += 1
        self._deliver(target, arrives_at, data, source, ecn)
        if link.duplicate and rng.random() < link.duplicate:
            self._duplicated += 1
            again_at = now + rng.uniform(*link.latency_s)
            self._deliver(target, again_at, data, source, ecn)

    def _deliver(
        self,
        target: "VirtualSocket",
        arrives_at: float,
        data: bytes,
        source: Endpoint,
        ecn: int,
    ) -> None:
        # The running number makes the order of simultaneous arrivals definite.
        self._order += 1
        if target.arrive(_Arrival(arrives_at, self._order, data, source, ecn)):
            self._delivered += 1
        else:
            self._lost += 1

    def _arrival(self, size: int, flow: _Flow, now: float) -> float | None:
        """When a datagram arrives; None when the bottleneck's queue is full."""
        link, rng = self.link, self._rng
        low, high = link.latency_s
        departs_at = now
        if link.bytes_per_s != math.inf:
            departs_at = max(now, flow.idle_at)
            flow.waited_s = departs_at - now
            if flow.waited_s > link.queue_s:
                return None
            departs_at += size / link.bytes_per_s
            flow.idle_at = departs_at
        arrives_at = departs_at + (rng.uniform(low, high) if high > low else low)
        if link.grain_s:
            arrives_at = math.ceil(arrives_at / link.grain_s) * link.grain_s
        if link.reorder and rng.random() < link.reorder:
            return arrives_at + rng.uniform(0.0, max(high, 0.001))
        flow.last_at = max(flow.last_at, arrives_at)
        return flow.last_at

    def _flow(self, source: Endpoint, destination: Endpoint, now: float) -> _Flow:
        key = (source, destination)
        flow = self._flows.get(key)
        if flow is None:
            if len(self._flows) >= _MAX_FLOWS:
                self._flows = {
                    known: flow
                    for known, flow in self._flows.items()
                    if flow.last_at > now or flow.idle_at > now
                }
            flow = self._flows[key] = _Flow()
        return flow

    def _is_cut(self, one: str, other: str) -> bool:
        if self._dead and (one in self._dead or other in self._dead):
            return True
        if not self._partitions:
            return False
        return any(
            (one in group_a and other in group_b)
            or (one in group_b and other in group_a)
            for group_a, group_b in self._partitions
        )

    def _free_port(self, host: str) -> int:
        for port in range(_FIRST_EPHEMERAL_PORT, _LAST_PORT + 1):
            if Endpoint(host, port) not in self._sockets:
                return port
        raise ConfigError("listen", f"{host} (all ports in use)", "a free UDP port")


class VirtualHost:
    """A host with one address; a `Network`."""

    def __init__(self, network: VirtualNetwork, address: str) -> None:
        self._network = network
        self._address = address

    @property
    def address(self) -> str:
        """The host's numeric address."""
        return self._address

    async def bind(self, endpoint: Endpoint) -> DatagramSocket:
        """See `Network.bind`."""
        return await self.bind_virtual(endpoint)

    async def bind_virtual(self, endpoint: Endpoint) -> "VirtualSocket":
        """Like `bind`, for tests that need the virtual socket's own levers."""
        await trio.lowlevel.checkpoint()
        if endpoint.host not in _WILDCARDS and endpoint.host != self._address:
            raise ConfigError("listen", str(endpoint), f"{self._address}, this host")
        sock = self._network.attach(self._address, endpoint.port)
        if endpoint.host in _WILDCARDS:
            sock.show_as(endpoint.host)
        return sock

    def interface_addresses(self) -> tuple[InterfaceAddress, ...]:
        """See `Network.interface_addresses`; one, in a subnet of the usual size."""
        length = _IPV6_SUBNET if ":" in self._address else _IPV4_SUBNET
        only = InterfaceAddress(
            host=self._address, name="eth0", prefix_length=length, is_default=True
        )
        return (only,)

    def has_route(self, endpoint: Endpoint) -> bool:
        """See `Network.has_route`."""
        return (":" in endpoint.host) == (":" in self._address)

    async def resolve(self, host: str, port: int) -> tuple[Endpoint, ...]:
        """See `Network.resolve`."""
        await trio.lowlevel.checkpoint()
        try:
            return (Endpoint(str(ipaddress.ip_address(host)), port),)
        except ValueError:
            addresses = self._network.addresses_of(host)
        if not addresses:
            raise NetworkError("unknown name")
        return tuple(Endpoint(address, port) for address in addresses)


class VirtualSocket:
    """A `DatagramSocket` of a virtual host, with offload in both directions."""

    def __init__(self, network: VirtualNetwork, endpoint: Endpoint) -> None:
        self._network = network
        self._endpoint = endpoint
        self._shown = endpoint
        # In flight and arrived, a heap.
        self._arrivals: list[_Arrival] = []
        self._queued_bytes = 0
        self._closed = False
        self._stalled = False
        self._sleepers: set[trio.CancelScope] = set()
        self._writable = trio.lowlevel.ParkingLot()
        self._datagrams_in = self._bytes_in = 0
        self._datagrams_out = self._bytes_out = 0
        self._send_errors = self._too_large = 0

    @property
    def local(self) -> Endpoint:
        """See `DatagramSocket.local`."""
        return self._shown

    @property
    def max_segments(self) -> int:
        """See `DatagramSocket.max_segments`."""
        return _MAX_SEGMENTS

    def receive(self) -> Received | None:
        """See `DatagramSocket.receive`; joins arrivals as a kernel with GRO does."""
        self._check_open()
        now = trio.current_time()
        arrivals = self._arrivals
        if not arrivals or arrivals[0][0] > now:
            return None
        _, _, data, source, ecn = heapq.heappop(arrivals)
        segment_size = size = len(data)
        run = [data]
        while arrivals and arrivals[0][0] <= now and len(run) < _MAX_SEGMENTS:
            following = arrivals[0].data
            total = size + len(following)
            if (
                arrivals[0].source != source
                or arrivals[0].ecn != ecn
                or not 0 < len(following) <= segment_size
                or total > _MAX_DATAGRAM
            ):
                break
            heapq.heappop(arrivals)
            run.append(following)
            size = total
            if len(following) < segment_size:
                break
        self._queued_bytes -= size
        self._bytes_in += size
        self._datagrams_in += len(run)
        joined = data if len(run) == 1 else b"".join(run)
        return Received(memoryview(joined), segment_size, source, ecn)

    def send(
        self, data: Buffer, destination: Endpoint, segment_size: int = 0, ecn: int = 0
    ) -> bool:
        """See `DatagramSocket.send`."""
        self._check_open()
        if self._stalled:
            return False
        source = self._endpoint
        for segment in (
            segments_of(data, segment_size or len(data) or 1)
            if data
            else (memoryview(b""),)
        ):
            if len(segment) > _MAX_DATAGRAM or not 0 < destination.port <= _LAST_PORT:
                self._send_errors += 1
                self._too_large += len(segment) > _MAX_DATAGRAM
                continue
            self._datagrams_out += 1
            self._bytes_out += len(segment)
            self._network.carry(bytes(segment), source, destination, ecn)
        return True

    async def wait_readable(self) -> None:
        """See `DatagramSocket.wait_readable`."""
        self._check_open()
        if self._arrivals and self._arrivals[0][0] <= trio.current_time():
            await trio.lowlevel.checkpoint()
        # Sleeping is a checkpoint too; a second one costs a tenth of a simulation.
        while not self._closed:
            due_at = self._arrivals[0][0] if self._arrivals else math.inf
            if due_at <= trio.current_time():
                return
            with trio.CancelScope(deadline=due_at) as scope:
                self._sleepers.add(scope)
                try:
                    await trio.sleep_forever()
                finally:
                    self._sleepers.discard(scope)
        self._check_open()

    async def wait_writable(self) -> None:
        """See `DatagramSocket.wait_writable`."""
        self._check_open()
        await trio.lowlevel.checkpoint()
        while self._stalled and not self._closed:
            await self._writable.park()
        self._check_open()

    def close(self) -> None:
        """See `DatagramSocket.close`."""
        if self._closed:
            return
        self._closed = True
        self._network.detach(self._endpoint)
        self.forget_arrivals()
        for scope in self._sleepers:
            scope.deadline = -math.inf
        self._writable.unpark_all()

    def statistics(self) -> SocketStatistics:
        """See `DatagramSocket.statistics`."""
        return SocketStatistics(
            datagrams_in=self._datagrams_in,
            bytes_in=self._bytes_in,
            datagrams_out=self._datagrams_out,
            bytes_out=self._bytes_out,
            send_errors=self._send_errors,
            too_large=self._too_large,
        )

    def stall(self) -> None:
        """From now on act as if the kernel's send buffer were full."""
        self._stalled = True

    def resume(self) -> None:
        """End `stall`."""
        self._stalled = False
        self._writable.unpark_all()

    def arrive(self, arrival: _Arrival) -> bool:
        """Take a datagram from the network; False when the buffer is full."""
        if self._queued_bytes + len(arrival.data) > _RECEIVE_BUFFER_BYTES:
            return False
        self._queued_bytes += len(arrival.data)
        heapq.heappush(self._arrivals, arrival)
        for scope in self._sleepers:
            scope.deadline = min(scope.deadline, arrival.at)
        return True

    def forget_arrivals(self) -> None:
        """Drop everything that is on its way here."""
        self._arrivals.clear()
        self._queued_bytes = 0

    def show_as(self, wildcard: str) -> None:
        """Report `wildcard` as the bound address, like a socket bound to it."""
        self._shown = Endpoint(wildcard, self._endpoint.port)

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError(f"UDP socket {self._shown} is closed")
