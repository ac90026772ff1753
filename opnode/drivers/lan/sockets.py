"""The sockets by which a node asks its links and hears what is asked there.

Owns groups, time to live and which interfaces are used. Refuses to know the datagrams.
"""

import contextlib
import logging
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final, Protocol, TypeAlias

import trio

from opnode.core.addresses import Endpoint
from opnode.core.interfaces import InterfaceAddress, InterfaceKind
from opnode.protocols.lan import GROUP_IPV4, GROUP_IPV6, PORT

logger = logging.getLogger(__name__)

MAX_INTERFACES: Final = 8
"""Addresses that questions leave from; whoever has more is no home and no office."""

_MAX_DATAGRAM: Final = 2048
_EVERY_IPV4: Final = "0.0.0.0"  # noqa: S104 - the groups are joined on each interface

Address: TypeAlias = tuple[str | int, ...]
"""As the system gives it, with its scope."""


class LanSocket(Protocol):
    """One socket at the link."""

    async def receive(self) -> tuple[bytes, Endpoint, Address]:
        """The next datagram, where it came from, and how to answer there."""
        ...

    async def ask(self, datagram: bytes) -> None:
        """Send to all neighbours; nothing for a socket that only listens."""
        ...

    async def reply(self, datagram: bytes, address: Address) -> None:
        """Send to one neighbour."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def open_lan_sockets(interfaces: Iterable[InterfaceAddress]) -> Sequence[LanSocket]:
    """Sockets for all real links; fewer, or none, where the system refuses."""
    links = [one for one in interfaces if one.kind is InterfaceKind.LINK]
    ipv4 = [one.host for one in links if ":" not in one.host][:MAX_INTERFACES]
    names = list(dict.fromkeys(one.name for one in links))[:MAX_INTERFACES]
    makers: list[Callable[[], SystemLanSocket]] = []
    if ipv4:
        makers.append(partial(_listen_ipv4, ipv4))
        makers += [partial(_ask_ipv4, host) for host in ipv4]
    if names and socket.has_ipv6:
        makers.append(partial(_listen_ipv6, names))
        makers += [partial(_ask_ipv6, name) for name in names]
    opened = []
    for make in makers:
        try:
            opened.append(make())
        except OSError as error:
            logger.debug("a link is not used: %s", error)
    return opened


class SystemLanSocket:
    """A UDP socket of the system; with a group it asks, without it listens."""

    def __init__(self, raw: socket.socket, group: Address | None) -> None:
        raw.setblocking(False)
        self._socket = trio.socket.from_stdlib_socket(raw)
        self._group = group

    async def receive(self) -> tuple[bytes, Endpoint, Address]:
        """See `LanSocket.receive`."""
        data, address = await self._socket.recvfrom(_MAX_DATAGRAM)
        host = str(address[0]).partition("%")[0]
        return data, Endpoint(host, int(address[1])), tuple(address)

    async def ask(self, datagram: bytes) -> None:
        """See `LanSocket.ask`."""
        if self._group is None:
            await trio.lowlevel.checkpoint()
            return
        await self.reply(datagram, self._group)

    async def reply(self, datagram: bytes, address: Address) -> None:
        """See `LanSocket.reply`."""
        # A link that is down, or has no route for this: others may be up.
        with contextlib.suppress(OSError):
            await self._socket.sendto(datagram, address)

    def close(self) -> None:
        """See `LanSocket.close`."""
        self._socket.close()


def _listen_ipv4(hosts: Sequence[str]) -> SystemLanSocket:
    raw = _shared(socket.AF_INET)
    with _closing_on_failure(raw):
        raw.bind((_EVERY_IPV4, PORT))
        for host in hosts:
            member = socket.inet_aton(GROUP_IPV4) + socket.inet_aton(host)
            raw.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    return SystemLanSocket(raw, None)


def _listen_ipv6(names: Sequence[str]) -> SystemLanSocket:
    raw = _shared(socket.AF_INET6)
    with _closing_on_failure(raw):
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        raw.bind(("::", PORT))
        group = socket.inet_pton(socket.AF_INET6, GROUP_IPV6)
        for name in names:
            member = group + struct.pack("@I", socket.if_nametoindex(name))
            raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
    return SystemLanSocket(raw, None)


def _ask_ipv4(host: str) -> SystemLanSocket:
    raw = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with _closing_on_failure(raw):
        interface = socket.inet_aton(host)
        raw.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
        raw.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        raw.bind((host, 0))
    return SystemLanSocket(raw, (GROUP_IPV4, PORT))


def _ask_ipv6(name: str) -> SystemLanSocket:
    raw = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with _closing_on_failure(raw):
        index = socket.if_nametoindex(name)
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
        raw.bind(("::", 0))
    return SystemLanSocket(raw, (GROUP_IPV6, PORT, 0, index))


def _shared(family: socket.AddressFamily) -> socket.socket:
    """A socket whose port several nodes of one machine hear at."""
    raw = socket.socket(family, socket.SOCK_DGRAM)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "SO_REUSEPORT"):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return raw


@contextlib.contextmanager
def _closing_on_failure(raw: socket.socket) -> Iterator[None]:
    try:
        yield
    except OSError:
        raw.close()
        raise
