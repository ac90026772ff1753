"""NAT boxes on a virtual network, and the hosts behind them.

Owns the way of datagrams through a box: out, in, across (hairpinning), and what happens
when a box reboots or moves, or a host changes from one to another. What is translated
how is `opnode.testing.nat_table`'s; how datagrams travel outside, the network's. There
is no latency inside.

A box has no task, as the network has none: what arrived is let in when the first socket
behind it looks, in the order of arrival and as of its time, so a datagram that comes
just before its hole is punched is lost like a real one. Every socket behind a box wakes
up for every datagram, so hundreds of hosts want boxes of their own.
"""

import heapq
import itertools
import math
import random
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import ConfigError
from opnode.core.interfaces import InterfaceAddress
from opnode.drivers.network.changes import Addresses
from opnode.drivers.network.network import DatagramSocket
from opnode.testing.nat_behaviour import Dependence, NatBehaviour
from opnode.testing.nat_table import NatTable, NatTableStatistics
from opnode.testing.virtual_network import (
    WILDCARDS,
    free_port,
    only_interface,
    resolve_with,
)
from opnode.testing.virtual_socket import Arrival, VirtualSocket

INSIDE: Final = "192.168.1."
"""Where most home networks are, so that most have equal addresses inside."""

MOBILE_INSIDE: Final = "10.144.7."
"""Where a mobile network's customers are."""

_FIRST_HOST: Final = 2
_LAST_HOST: Final = 254
# On its way to a box: as much as to one socket.
_QUEUE_BYTES: Final = 8 << 20


class Outside(Protocol):
    """What a box is plugged into: the network, or another box."""

    def carry(
        self, data: bytes, source: Endpoint, destination: Endpoint, ecn: int = 0
    ) -> None:
        """Send one datagram on its way."""
        ...

    def enter(self, address: str, gate: "VirtualNat") -> None:
        """Let a box take what is sent to an address."""
        ...

    def leave(self, address: str) -> None:
        """Undo `enter`."""
        ...

    def settle(self) -> float:
        """Hand over what came until now; when there may be more."""
        ...

    def addresses_of(self, name: str) -> tuple[str, ...]:
        """Addresses of a name, or none."""
        ...


class Member(Protocol):
    """Who may be behind a box: a host, or another box."""

    def arrive(self, arrival: Arrival) -> bool:
        """Take a datagram; False when there is no room."""
        ...

    def forget_arrivals(self) -> None:
        """Drop everything that is on its way here."""
        ...

    def wake_at(self, at: float) -> None:
        """Let whoever waits look again then."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualNatStatistics:
    """What became of the datagrams so far.

    Attributes:
        sent, let_in: that went through.
        blocked: in either direction, by a box that blocks UDP.
        not_hairpinned: to the box's own address, by one that does not.
        table: what is translated, and what was refused.
    """

    sent: int
    let_in: int
    blocked: int
    not_hairpinned: int
    table: NatTableStatistics


class VirtualNat:
    """One box: an address outside, any number of hosts and boxes inside.

    Args:
        outside: the network, or the box of a provider that this one is behind (CGNAT).
        address: where it is there.
        behaviour: what kind it is.
        rng: decides ports; one for all boxes keeps a simulation repeatable.
        inside: the first three numbers of the addresses inside, with the dot.

    Raises:
        ConfigError: the address is taken.
    """

    def __init__(
        self,
        outside: Outside,
        address: str,
        behaviour: NatBehaviour,
        rng: random.Random,
        inside: str = INSIDE,
    ) -> None:
        self._outside = outside
        self._address = address
        self._behaviour = behaviour
        self._inside = inside
        self._rng = rng
        self._table = NatTable(behaviour, rng)
        self._members: dict[str, Member] = {}
        self._arrivals: list[Arrival] = []
        self._queued_bytes = 0
        self._order = itertools.count()
        self._sent = self._let_in = self._blocked = self._not_hairpinned = 0
        outside.enter(address, self)

    @property
    def address(self) -> str:
        """Where it is outside."""
        return self._address

    @property
    def behaviour(self) -> NatBehaviour:
        """What kind it is."""
        return self._behaviour

    def host(self) -> "InsideHost":
        """One more host inside, at the next free address.

        Raises:
            ConfigError: there is none.
        """
        return InsideHost(self)

    def next_address(self) -> str:
        """The next free address inside.

        Raises:
            ConfigError: there is none.
        """
        candidates = [self._inside + str(n) for n in range(_FIRST_HOST, _LAST_HOST)]
        if not self._behaviour.translates:
            candidates = [self._address]
        for candidate in candidates:
            if candidate not in self._members:
                return candidate
        raise ConfigError("host", f"all behind {self._address}", "a free address")

    def reboot(self) -> None:
        """Lose every mapping and what is on its way."""
        self._table.forget_all()
        self.forget_arrivals()

    def become(self, behaviour: NatBehaviour) -> None:
        """Behave like this from now on, as after a change of its settings."""
        assert behaviour.translates == self._behaviour.translates
        self.settle()
        self._behaviour = behaviour
        self._table = NatTable(behaviour, self._rng)

    def change_address(self, address: str) -> None:
        """Get another address outside, as by a new lease; every mapping is lost.

        Raises:
            ConfigError: the address is taken.
        """
        self._outside.enter(address, self)
        self._outside.leave(self._address)
        self.reboot()
        before, self._address = self._address, address
        if not self._behaviour.translates:
            for member in [m for a, m in self._members.items() if a == before]:
                assert isinstance(member, InsideHost)
                member.move_to(self)

    def enter(self, address: str, gate: Member) -> None:
        """Let a host or a box be inside.

        Raises:
            ConfigError: the address is taken.
        """
        if address in self._members:
            raise ConfigError("address", address, "one that nobody has")
        self._members[address] = gate

    def leave(self, address: str) -> None:
        """Undo `enter`; its mappings stay until they end, as in real boxes."""
        self._members.pop(address).forget_arrivals()

    def addresses_of(self, name: str) -> tuple[str, ...]:
        """See `Outside.addresses_of`."""
        return self._outside.addresses_of(name)

    def carry(
        self, data: bytes, source: Endpoint, destination: Endpoint, ecn: int = 0
    ) -> None:
        """Take a datagram from inside."""
        self.settle()
        now = trio.current_time()
        arrival = Arrival(now, next(self._order), data, source, destination, ecn)
        neighbour = self._members.get(destination.host)
        if neighbour is not None:
            neighbour.arrive(arrival)
        elif self._behaviour.blocks_udp:
            self._blocked += 1
        elif destination.host == self._address:
            self._hairpin(arrival)
        elif not destination.host.startswith(self._inside):
            outer = self._translate(arrival)
            if outer is not None:
                self._sent += 1
                self._outside.carry(data, outer, destination, ecn)

    def arrive(self, arrival: Arrival) -> bool:
        """Take a datagram from outside, to be judged when its time has come."""
        if self._queued_bytes + len(arrival.data) > _QUEUE_BYTES:
            return False
        self._queued_bytes += len(arrival.data)
        heapq.heappush(self._arrivals, arrival)
        self.wake_at(arrival.at)
        return True

    def forget_arrivals(self) -> None:
        """Drop everything that is on its way in."""
        self._arrivals.clear()
        self._queued_bytes = 0
        for member in self._members.values():
            member.forget_arrivals()

    def wake_at(self, at: float) -> None:
        """Let every socket inside look again then."""
        for member in self._members.values():
            member.wake_at(at)

    def settle(self) -> float:
        """Let in what came until now; when there may be more."""
        outside_at = self._outside.settle()
        now = trio.current_time()
        while self._arrivals and self._arrivals[0].at <= now:
            arrival = heapq.heappop(self._arrivals)
            self._queued_bytes -= len(arrival.data)
            self._judge(arrival)
        own_at = self._arrivals[0].at if self._arrivals else math.inf
        return min(own_at, outside_at)

    def statistics(self) -> VirtualNatStatistics:
        """Read the counters."""
        self.settle()
        return VirtualNatStatistics(
            sent=self._sent,
            let_in=self._let_in,
            blocked=self._blocked,
            not_hairpinned=self._not_hairpinned,
            table=self._table.statistics(trio.current_time()),
        )

    def _translate(self, arrival: Arrival) -> Endpoint | None:
        """As whom a datagram leaves; None when it does not."""
        source = arrival.source
        if self._is_open():
            return source
        port = self._table.outbound(source, arrival.destination, arrival.at)
        return None if port is None else Endpoint(self._address, port)

    def _hairpin(self, arrival: Arrival) -> None:
        if not self._behaviour.hairpins:
            self._not_hairpinned += 1
            return
        outer = self._translate(arrival)
        if outer is not None:
            self._judge(arrival._replace(source=outer))

    def _judge(self, arrival: Arrival) -> None:
        """Let in what came for somebody inside, or drop it."""
        if self._behaviour.blocks_udp:
            self._blocked += 1
            return
        inside: Endpoint | None = arrival.destination
        if not self._is_open():
            port = arrival.destination.port
            inside = self._table.inbound(port, arrival.source, arrival.at)
        member = self._members.get(inside.host) if inside is not None else None
        if inside is not None and member is not None:
            self._let_in += 1
            member.arrive(arrival._replace(destination=inside))

    def _is_open(self) -> bool:
        """Whether nothing has to be remembered of whom the host talks to."""
        filtering = self._behaviour.filtering
        is_filter = filtering is not Dependence.ENDPOINT_INDEPENDENT
        return not self._behaviour.translates and not is_filter


class InsideHost:
    """A host behind a box, or on its way from one to another; a `Network`.

    Sockets bound to every interface move with it, others stay behind.
    """

    def __init__(self, nat: VirtualNat) -> None:
        self._nat: VirtualNat | None = None
        self._address = ""
        self._sockets: dict[int, VirtualSocket] = {}
        self._moved = trio.Event()
        self.move_to(nat)

    @property
    def address(self) -> str:
        """The address inside; the last one while it is nowhere."""
        return self._address

    @property
    def nat(self) -> VirtualNat | None:
        """The box that it is behind; None while it is nowhere."""
        return self._nat

    def move_to(self, nat: VirtualNat | None) -> None:
        """Leave this box for another one, or for nowhere, as without coverage.

        Raises:
            ConfigError: there is no free address; the host is nowhere then.
        """
        if self._nat is not None:
            self._nat.leave(self._address)
            self._nat = None
        self._moved.set()
        self._moved = trio.Event()
        if nat is None:
            return
        self._address = nat.next_address()
        nat.enter(self._address, self)
        self._nat = nat
        for sock in self._sockets.values():
            if sock.local.host in WILDCARDS:
                sock.move(self._address)
            # Those that slept knew nothing of what arrives at the new box.
            sock.wake_at(nat.settle())

    async def bind(self, endpoint: Endpoint) -> DatagramSocket:
        """See `Network.bind`."""
        await trio.lowlevel.checkpoint()
        if endpoint.host not in WILDCARDS and endpoint.host != self._address:
            raise ConfigError("listen", str(endpoint), f"{self._address}, this host")
        port = endpoint.port or free_port(self._address, self._sockets.__contains__)
        if port in self._sockets:
            raise ConfigError("listen", f"{endpoint} (in use)", "a free UDP port")
        sock = VirtualSocket(self, Endpoint(self._address, port))
        self._sockets[port] = sock
        if endpoint.host in WILDCARDS:
            sock.show_as(endpoint.host)
        return sock

    def interface_addresses(self) -> tuple[InterfaceAddress, ...]:
        """See `Network.interface_addresses`."""
        return () if self._nat is None else (only_interface(self._address),)

    async def wait_changed(self, known: Addresses) -> Addresses:
        """See `Network.wait_changed`; another box may give the same address."""
        if frozenset(self.interface_addresses()) == frozenset(known):
            await self._moved.wait()
        await trio.lowlevel.checkpoint()
        return self.interface_addresses()

    def has_route(self, endpoint: Endpoint) -> bool:
        """See `Network.has_route`."""
        is_same_family = (":" in endpoint.host) == (":" in self._address)
        return self._nat is not None and is_same_family

    async def resolve(self, host: str, port: int) -> tuple[Endpoint, ...]:
        """See `Network.resolve`."""
        await trio.lowlevel.checkpoint()
        return resolve_with(self._addresses_of, host, port)

    def carry(
        self, data: bytes, source: Endpoint, destination: Endpoint, ecn: int = 0
    ) -> None:
        """See `Wire.carry`; without a box, or from an address that is gone: lost."""
        if self._nat is not None and source.host == self._address:
            self._nat.carry(data, source, destination, ecn)

    def detach(self, endpoint: Endpoint) -> None:
        """See `Wire.detach`."""
        del self._sockets[endpoint.port]

    def settle(self) -> float:
        """See `Wire.settle`."""
        return math.inf if self._nat is None else self._nat.settle()

    def arrive(self, arrival: Arrival) -> bool:
        """Take a datagram from the box or a neighbour."""
        sock = self._sockets.get(arrival.destination.port)
        return sock is not None and sock.arrive(arrival)

    def forget_arrivals(self) -> None:
        """Drop what no task has seen yet."""
        for sock in self._sockets.values():
            sock.forget_arrivals()

    def wake_at(self, at: float) -> None:
        """Let every socket look again then."""
        for sock in self._sockets.values():
            sock.wake_at(at)

    def _addresses_of(self, name: str) -> tuple[str, ...]:
        return () if self._nat is None else self._nat.addresses_of(name)
