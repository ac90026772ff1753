"""Which interface of a lab has which address.

Owns the addresses: the public ones lie alone in their /16 somewhere on the Internet, as
opnode treats related networks as one. Refuses to know how interfaces are made.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from opnode.core.errors import ConfigError
from simulations.natlab.spec import NET, Host, LabSpec

FIRST_OCTET: Final = 40
PER_OCTET: Final = 200
GATEWAY_V4: Final = "169.254.1.1"
"""The public segment's own address on every line: never seen beyond it."""

GATEWAY_V6: Final = "fe80::1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A cable from a station to the NAT in front of it, or to the public segment.

    Attributes:
        above: the namespace of the other end: a NAT's name, or ``net``.
        port: the interface at that end.
        v4: the station's address with its prefix length.
        gateway: where its default route leads.
        v6: the station's IPv6 address with its prefix length, if it has one.
        gateway_v6: where its default IPv6 route leads.
        inner_v6: the network behind a NAT that is routed to it.
    """

    above: str
    port: str
    v4: str
    gateway: str
    v6: str | None = None
    gateway_v6: str | None = None
    inner_v6: str | None = None

    @property
    def address(self) -> str:
        """The IPv4 address alone."""
        return self.v4.partition("/")[0]

    @property
    def address_v6(self) -> str | None:
        """The IPv6 address alone."""
        return self.v6.partition("/")[0] if self.v6 else None

    @property
    def public_addresses(self) -> tuple[str, ...]:
        """By which the public segment knows it: one for each network, or none."""
        if not self.is_public:
            return ()
        inner = self.inner_v6.partition("/")[0] if self.inner_v6 else None
        return tuple(filter(None, (self.address, self.address_v6, inner)))

    @property
    def is_public(self) -> bool:
        """Whether it ends at the public segment."""
        return self.above == NET


@dataclass(slots=True)
class Plan:
    """The lines of all stations and the networks behind the NATs."""

    spec: LabSpec
    lines: dict[str, Line] = field(default_factory=dict)
    lans: dict[str, ipaddress.IPv4Network] = field(default_factory=dict)
    lans_v6: dict[str, ipaddress.IPv6Network] = field(default_factory=dict)
    _given: dict[str, int] = field(default_factory=dict)

    def add_line(self, name: str, behind: str | None, *, v6: bool) -> Line:
        """Give a station its place at the public segment or behind a NAT."""
        if behind is None:
            line = self._public_line(name, v6=v6)
        else:
            line = self._private_line(behind)
        self.lines[name] = line
        return line

    def _next(self, kind: str) -> int:
        number = self._given.get(kind, 0) + 1
        self._given[kind] = number
        return number

    def _public_line(self, name: str, *, v6: bool) -> Line:
        number = self._next(NET)
        octets = FIRST_OCTET + number // PER_OCTET, 1 + number % PER_OCTET
        inner = self.lans_v6.get(name)
        return Line(
            above=NET,
            port=f"p{number}",
            v4=f"{octets[0]}.{octets[1]}.0.1/32",
            gateway=GATEWAY_V4,
            v6=f"2a01:{number:x}::1/128" if v6 else None,
            gateway_v6=GATEWAY_V6 if v6 else None,
            inner_v6=str(inner) if inner else None,
        )

    def _private_line(self, behind: str) -> Line:
        lan, lan_v6 = self.lans[behind], self.lans_v6.get(behind)
        number = self._next(behind) + 1
        v6 = f"{lan_v6[number]}/{lan_v6.prefixlen}" if lan_v6 else None
        return Line(
            above=behind,
            port=f"l{number}",
            v4=f"{lan[number]}/{lan.prefixlen}",
            gateway=str(lan[1]),
            v6=v6,
            gateway_v6=str(lan_v6[1]) if lan_v6 else None,
        )


def make_plan(spec: LabSpec) -> Plan:
    """Give every interface its address; the same spec gives the same plan.

    Raises:
        ConfigError: the network behind a NAT is none.
    """
    plan = Plan(spec)
    for number, (name, nat) in enumerate(spec.nats.items(), 1):
        holds_nats = any(other.behind == name for other in spec.nats.values())
        # Shared address space between an ISP and its customers (RFC 6598).
        default = f"100.64.{number}.0/24" if holds_nats else f"192.168.{number}.0/24"
        plan.lans[name] = _network(nat.lan or default, f"{name}.lan")
        if nat.v6:
            plan.lans_v6[name] = ipaddress.IPv6Network(f"2a02:{number:x}::/64")
    for name in sorted(spec.nats, key=spec.depth):
        plan.add_line(name, spec.nats[name].behind, v6=spec.nats[name].v6)
    for name, host in spec.hosts.items():
        plan.add_line(name, host.behind, v6=host.v6)
    return plan


def junk_addresses(hosts: Mapping[str, Host], name: str) -> tuple[str, ...]:
    """The addresses of a host's interfaces that lead nowhere, as docker gives them."""
    return tuple(f"172.{17 + n // 200}.{n % 200}.1/24" for n in range(hosts[name].junk))


def _network(text: str, where: str) -> ipaddress.IPv4Network:
    try:
        return ipaddress.IPv4Network(text)
    except ValueError as error:
        raise ConfigError(where, str(error), "an IPv4 network") from None
