"""The addresses of this machine and which of them are worth telling a peer.

Owns what an interface is for, judged by its name, and the order of preference. Refuses
to ask the system and to know what is done with the addresses.
"""

import enum
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from opnode.core.addresses import is_loopback, is_public

_CACHED: Final = 1024


class InterfaceKind(enum.IntEnum):
    """What an interface leads to, the most useful first.

    LINK: a network that others are in. TUNNEL: a VPN; whoever is in it as well can also
    be reached without it, mostly. VIRTUAL: containers and virtual machines on this very
    machine. LOOPBACK: nobody but us.
    """

    LINK = 0
    TUNNEL = 1
    VIRTUAL = 2
    LOOPBACK = 3


# As Linux, macOS, Windows and what runs on them name their interfaces. PPP is left out:
# it may be somebody's only line. A plain br0 is a bridge with a real card in it.
_TUNNELS: Final = re.compile(
    r"tun|tap|utun|wg|tailscale|zt|nordlynx|proton|ham\d|ipsec|gre|sit|ip6tnl|vti|"
    r"wireguard|openvpn|teredo"
)
_VIRTUAL: Final = re.compile(
    r"docker|br-(?!lan)|veth|virbr|vnet|vmnet|vboxnet|virtualbox|vmware|vethernet|hyper-v|"
    r"lxc|lxd|incus|cni|flannel|cali|cilium|kube|podman|nerdctl|dummy|ifb|bridge1\d\d|"
    r"awdl|llw|anpi"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceAddress:
    """One numeric address of this machine.

    Attributes:
        host: canonical text, without a scope.
        name: of the interface, as the system says.
        prefix_length: bits that its subnet shares; the whole address if not known.
        is_default: what leaves for the rest of the world has it as its source.
    """

    host: str
    name: str = ""
    prefix_length: int | None = None
    is_default: bool = False

    @property
    def kind(self) -> InterfaceKind:
        """What the interface is for."""
        return _kind(self.name, self.host)

    def is_near(self, host: str) -> bool:
        """Whether that address is in this interface's subnet."""
        return _subnet(self.host, self.prefix_length) == _subnet(
            host, self.prefix_length
        )


def ranked_interfaces(
    interfaces: Iterable[InterfaceAddress], near: Iterable[str] = ()
) -> list[InterfaceAddress]:
    """The most useful address first; loopback addresses are last.

    Real links before VPNs before virtual machines, as half of all developers have an
    address 172.17.0.1 that is only theirs; then whichever shares a subnet with one of
    ``near``, the peer's addresses; then the one that leads out; then public IPv6, where
    no NAT is in the way.
    """
    peers = tuple(near)
    return sorted(
        interfaces,
        key=lambda one: (
            one.kind,
            not any(map(one.is_near, peers)),
            not one.is_default,
            not (":" in one.host and is_public(one.host)),
        ),
    )


def is_on_link(interfaces: Iterable[InterfaceAddress], host: str) -> bool:
    """Whether an address is in a network that we are in, through a real interface."""
    return any(
        one.kind is InterfaceKind.LINK and one.is_near(host) for one in interfaces
    )


@lru_cache(maxsize=_CACHED)
def _kind(name: str, host: str) -> InterfaceKind:
    lowered = name.lower()
    if is_loopback(host) or lowered == "lo":
        return InterfaceKind.LOOPBACK
    if _VIRTUAL.match(lowered):
        return InterfaceKind.VIRTUAL
    return InterfaceKind.TUNNEL if _TUNNELS.match(lowered) else InterfaceKind.LINK


@lru_cache(maxsize=_CACHED)
def _subnet(
    host: str, prefix_length: int | None
) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    address = ipaddress.ip_address(host)
    length = address.max_prefixlen if prefix_length is None else prefix_length
    # The two families never meet: a network of one is unequal to all of the other.
    bits = min(length, address.max_prefixlen)
    return ipaddress.ip_network((host, bits), strict=False)
