"""The router in front of this machine, and which of our addresses it knows us by.

Owns the look into the system's routes. Refuses to know what routers are asked.
"""

import ipaddress
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from opnode.core.addresses import is_loopback, is_public
from opnode.core.interfaces import InterfaceAddress

ROUTES: Final = Path("/proc/net/route")
_COLUMNS: Final = 8
_GATEWAY_FLAG: Final = 0x2
_MAX_LINES: Final = 4096
_MAX_ROUTERS: Final = 2
"""Wi-Fi and cable at the same time; more are virtual."""

_FEWEST: Final = 2
"""A network of two addresses is a cable between two machines."""


class HomeRouter(NamedTuple):
    """A router and our address in its network, both IPv4 and private."""

    host: str
    ours: str


def find_home_routers(
    interfaces: Sequence[InterfaceAddress], routes: Path = ROUTES
) -> tuple[HomeRouter, ...]:
    """The default gateways, the preferred one first.

    Where the system does not show its routes, the first host of each private network
    is taken: nearly all home routers are there, and nobody else minds the question.
    Public gateways are an operator's, who forwards nothing for us.
    """
    try:
        with routes.open() as file:
            hosts = default_routes(file.readlines(_MAX_LINES * 128))
    except OSError:
        hosts = _first_hosts(interfaces)
    found = []
    for host in dict.fromkeys(hosts):
        ours = _address_beside(host, interfaces)
        if ours is not None and not is_public(host):
            found.append(HomeRouter(host, ours))
    return tuple(found[:_MAX_ROUTERS])


def default_routes(lines: Iterable[str]) -> list[str]:
    """The gateways of default routes in Linux's table, by metric."""
    found = []
    for line in lines:
        fields = line.split()
        if len(fields) < _COLUMNS or fields[1] != "00000000":
            continue
        try:
            gateway, flags, metric = (
                int(fields[2], 16),
                int(fields[3], 16),
                int(fields[6]),
            )
        except ValueError:
            continue
        if flags & _GATEWAY_FLAG and 0 < gateway < 1 << 32:
            # The kernel prints the number as it lies in memory.
            host = ipaddress.IPv4Address(struct.pack("=I", gateway))
            found.append((metric, str(host)))
    return [host for _, host in sorted(found, key=lambda one: one[0])]


def _first_hosts(interfaces: Sequence[InterfaceAddress]) -> list[str]:
    networks = map(_network_of, interfaces)
    return [
        str(network[1])
        for network in networks
        if network is not None and network.num_addresses > _FEWEST
    ]


def _address_beside(host: str, interfaces: Sequence[InterfaceAddress]) -> str | None:
    """Our address in the network of another host."""
    address = ipaddress.IPv4Address(host)
    for one in interfaces:
        network = _network_of(one)
        if network is not None and address in network and one.host != host:
            return one.host
    return None


def _network_of(one: InterfaceAddress) -> ipaddress.IPv4Network | None:
    if ":" in one.host or one.prefix_length is None or is_loopback(one.host):
        return None
    return ipaddress.IPv4Network((one.host, one.prefix_length), strict=False)
