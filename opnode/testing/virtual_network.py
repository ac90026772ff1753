"""A network in memory on trio's clock: a fake of `opnode.drivers.network.network`.

Owns the journey of datagrams between virtual hosts (latency, jitter, loss, reordering,
duplication, partitions) and a digest of everything sent. Refuses to know what the
datagrams mean. It has no task of its own: a waiting socket sleeps until its next
datagram arrives, so it works under any trio clock, and with the same seed, the same
sends and a deterministic scheduler (`opnode.testing.clock`) the digest is the same.
"""

import hashlib
import ipaddress
import math
import random
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import ConfigError, NetworkError
from opnode.core.interfaces import InterfaceAddress
from opnode.drivers.network.changes import Addresses
from opnode.drivers.network.network import DatagramSocket
from opnode.testing.clock import VirtualClock, virtual_clock
from opnode.testing.virtual_socket import LAST_PORT, Arrival, Gate, VirtualSocket

_FIRST_EPHEMERAL_PORT = 49_152
_MAX_DATAGRAM = 65_507
_IPV4_SUBNET, _IPV6_SUBNET = 24, 64
_CE = 3
# Flows whose order is remembered; beyond it those that are in the past are forgotten.
_MAX_FLOWS = 50_000
# Parts of the trace, two a datagram, that are hashed together.
_NOTED_AT_ONCE = 512
_TRACE = struct.Struct("!dHHII")
WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, never bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How datagrams travel between any two hosts.

    Jitter alone never reorders the datagrams between two sockets; `reorder` does.
    """

    # Uniform between low and high, per datagram.
    latency_s: tuple[float, float] = (0.0, 0.0)
    # On top of it, uniform between low and high once for each pair of hosts: some are
    # near each other, others on the other side of the globe.
    distance_s: tuple[float, float] = (0.0, 0.0)
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
        for name in ("latency_s", "distance_s"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ConfigError(name, f"({low}, {high})", "0 <= low <= high")
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


class _Flow:
    """Order and queue of the datagrams from one socket to another."""

    __slots__ = ("distance_s", "idle_at", "last_at", "waited_s")

    def __init__(self, distance_s: float) -> None:
        self.distance_s = distance_s
        self.last_at = -math.inf
        self.idle_at = -math.inf
        # How long the last datagram waits at the bottleneck.
        self.waited_s = 0.0


class VirtualNetwork:
    """Hosts and the wires between them.

    Args:
        rng: decides every latency, loss, duplicate and reordering.
        link: the properties of all wires; may be replaced at any time.
        traces_contents: let the digest depend on every byte, not only on sizes; some
            randomness cannot be seeded (`opnode.testing.seeded_secrets`).
    """

    def __init__(
        self,
        rng: random.Random,
        link: Link | None = None,
        *,
        traces_contents: bool = True,
    ) -> None:
        self.link = link or Link()
        # Told of every datagram that is sent: when, what, from where, to where.
        self.watch: Callable[[float, bytes, Endpoint, Endpoint], None] | None = None
        self._traces_contents = traces_contents
        self._rng = rng
        self._hosts: dict[str, VirtualHost] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        self._sockets: dict[Endpoint, VirtualSocket] = {}
        self._gates: dict[str, Gate] = {}
        self._map: int | None = None
        self._flows: dict[tuple[Endpoint, Endpoint], _Flow] = {}
        self._partitions: list[tuple[frozenset[str], frozenset[str]]] = []
        self._dead: set[str] = set()
        self._trace = hashlib.sha256()
        self._noted: list[bytes] = []
        self._clock: VirtualClock | None = None
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
        if address in self._gates:
            self._gates[address].forget_arrivals()
        for endpoint, sock in self._sockets.items():
            if endpoint.host == address:
                sock.forget_arrivals()

    def revive(self, address: str) -> None:
        """Connect a killed host again."""
        self._dead.discard(address)

    def trace_digest(self) -> str:
        """SHA-256 over time, source, destination, size and CRC of all sent so far.

        Without the CRC where contents are not traced.
        """
        self._trace.update(b"".join(self._noted))
        self._noted.clear()
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

    def attach(self, host: str, port: int) -> VirtualSocket:
        """Make a socket; `VirtualHost.bind` is the public way to it."""

        def is_taken(port: int) -> bool:
            return Endpoint(host, port) in self._sockets

        endpoint = Endpoint(host, port or free_port(host, is_taken))
        if endpoint in self._sockets:
            raise ConfigError("listen", f"{endpoint} (in use)", "a free UDP port")
        self._clock = virtual_clock()
        self._sockets[endpoint] = VirtualSocket(self, endpoint)
        return self._sockets[endpoint]

    def detach(self, endpoint: Endpoint) -> None:
        """Forget a closed socket."""
        del self._sockets[endpoint]

    def settle(self) -> float:
        """See `Wire.settle`: every datagram is on its way to its socket."""
        return math.inf

    def enter(self, address: str, gate: Gate) -> None:
        """Let a gate take what is sent to an address.

        Raises:
            ConfigError: the address is taken.
        """
        if address in self._gates or address in self._hosts:
            raise ConfigError("address", address, "one that nobody has")
        self._gates[address] = gate

    def leave(self, address: str) -> None:
        """Undo `enter`; what is on its way there is lost."""
        self._gates.pop(address).forget_arrivals()

    def addresses_of(self, name: str) -> tuple[str, ...]:
        """Addresses given to `add_name`, or none."""
        return self._names.get(name, ())

    def carry(
        self, data: bytes, source: Endpoint, destination: Endpoint, ecn: int = 0
    ) -> None:
        """Send one datagram on its way. Hot: about 100 000 a second, so kept plain."""
        clock = self._clock
        now = clock.now if clock is not None else trio.current_time()
        self._sent += 1
        self._note(now, data, source, destination)
        if (self._dead or self._partitions) and self._is_cut(
            source.host, destination.host
        ):
            self._cut += 1
            return
        target = self._sockets.get(destination) or self._gates.get(destination.host)
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
        order = self._order = self._order + 2
        # Its own constructor takes as long as half of the rest.
        fields = (arrives_at, order, data, source, destination, ecn)
        arrival = tuple.__new__(Arrival, fields)
        self._deliver(target, arrival)
        if link.duplicate and rng.random() < link.duplicate:
            self._duplicated += 1
            again_at = now + flow.distance_s + rng.uniform(*link.latency_s)
            self._deliver(target, arrival._replace(at=again_at, order=order + 1))

    def _note(
        self, now: float, data: bytes, source: Endpoint, destination: Endpoint
    ) -> None:
        """Let the digest depend on a datagram; tell who watches."""
        if self._started_at is None:
            self._started_at = now
        noted = self._noted
        noted.append(
            _TRACE.pack(
                now - self._started_at,
                source.port,
                destination.port,
                len(data),
                zlib.crc32(data) if self._traces_contents else 0,
            )
        )
        noted.append(f"{source.host}>{destination.host}".encode())
        if len(noted) >= _NOTED_AT_ONCE:
            self._trace.update(b"".join(noted))
            noted.clear()
        if self.watch is not None:
            self.watch(now, data, source, destination)

    def _deliver(self, target: Gate, arrival: Arrival) -> None:
        if target.arrive(arrival):
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
        latency_s = low + (high - low) * rng.random() if high > low else low
        arrives_at = departs_at + latency_s
        arrives_at += flow.distance_s
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
            distance_s = self._distance_s(source.host, destination.host)
            flow = self._flows[key] = _Flow(distance_s)
        return flow

    def _distance_s(self, one: str, other: str) -> float:
        """How far two hosts are apart, whoever asks."""
        low, high = self.link.distance_s
        if not high:
            return 0.0
        if self._map is None:
            self._map = self._rng.getrandbits(32)
        pair = f"{self._map} {min(one, other)} {max(one, other)}"
        return random.Random(pair).uniform(low, high)  # noqa: S311 - a map, no secret

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


def free_port(host: str, is_taken: Callable[[int], bool]) -> int:
    """The first port for whoever asks for any.

    Raises:
        ConfigError: there is none.
    """
    for port in range(_FIRST_EPHEMERAL_PORT, LAST_PORT + 1):
        if not is_taken(port):
            return port
    raise ConfigError("listen", f"{host} (all ports in use)", "a free UDP port")


def only_interface(address: str) -> InterfaceAddress:
    """The one interface of a host, in a subnet of the usual size."""
    length = _IPV6_SUBNET if ":" in address else _IPV4_SUBNET
    return InterfaceAddress(
        host=address, name="eth0", prefix_length=length, is_default=True
    )


def resolve_with(
    addresses_of: Callable[[str], tuple[str, ...]], host: str, port: int
) -> tuple[Endpoint, ...]:
    """See `Network.resolve`; names are looked up with the function given.

    Raises:
        NetworkError: nobody has that name.
    """
    try:
        return (Endpoint(str(ipaddress.ip_address(host)), port),)
    except ValueError:
        addresses = addresses_of(host)
    if not addresses:
        raise NetworkError("unknown name")
    return tuple(Endpoint(address, port) for address in addresses)


class VirtualHost:
    """A host with one address; a `Network`."""

    def __init__(self, network: VirtualNetwork, address: str) -> None:
        self._network = network
        self._address = address
        self._changed = trio.Event()

    @property
    def address(self) -> str:
        """The host's numeric address."""
        return self._address

    async def bind(self, endpoint: Endpoint) -> DatagramSocket:
        """See `Network.bind`."""
        return await self.bind_virtual(endpoint)

    async def bind_virtual(self, endpoint: Endpoint) -> VirtualSocket:
        """Like `bind`, for tests that need the virtual socket's own levers."""
        await trio.lowlevel.checkpoint()
        if endpoint.host not in WILDCARDS and endpoint.host != self._address:
            raise ConfigError("listen", str(endpoint), f"{self._address}, this host")
        sock = self._network.attach(self._address, endpoint.port)
        if endpoint.host in WILDCARDS:
            sock.show_as(endpoint.host)
        return sock

    def interface_addresses(self) -> tuple[InterfaceAddress, ...]:
        """See `Network.interface_addresses`."""
        return (only_interface(self._address),)

    async def wait_changed(self, known: Addresses) -> Addresses:
        """See `Network.wait_changed`; for hosts whose addresses a test changes."""
        while frozenset(found := self.interface_addresses()) == frozenset(known):
            await self._changed.wait()
        await trio.lowlevel.checkpoint()
        return found

    def announce_change(self) -> None:
        """Wake who waits for a change, as a kernel does after each of its own."""
        self._changed.set()
        self._changed = trio.Event()

    def has_route(self, endpoint: Endpoint) -> bool:
        """See `Network.has_route`."""
        return (":" in endpoint.host) == (":" in self._address)

    async def resolve(self, host: str, port: int) -> tuple[Endpoint, ...]:
        """See `Network.resolve`."""
        await trio.lowlevel.checkpoint()
        return resolve_with(self._network.addresses_of, host, port)
