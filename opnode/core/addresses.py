"""IP endpoints and ICE candidates as values; opens no socket, resolves no name."""

import ipaddress
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple, Self

from opnode.core.errors import ConfigError, RemoteProtocolError

_IPV4_SIZE = 4
_IPV6_SIZE = 16
_IPV6_SITE_SIZE = 8
_PORT_SIZE = 2
_MAX_PORT = 65535
_PORT_DIGITS = 5
# Longest text that is still shown in an error; more would only hide the sentence.
_MAX_SHOWN = 64
_EXPECTED_ENDPOINT = "HOST:PORT with a numeric address, as 192.0.2.1:4000 or [::1]:4000"
# Hosts seen by a busy node in a minute; each entry takes about 200 bytes.
_CACHED_HOSTS = 4096
_CARRIED_PREFIX = 0x100 << 112


class Endpoint(NamedTuple):
    """One UDP address: usable as it is as the address argument of a socket.

    Attributes:
        host: Canonical numeric text of an IPv4 or IPv6 address, without a scope.
        port: 0 to 65535; 0 stands for "any" and never travels.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, field: str = "endpoint") -> Self:
        """Read ``1.2.3.4:5`` or ``[::1]:5``.

        An IPv4 address written as IPv6 (``::ffff:1.2.3.4``) becomes the IPv4 one.

        Args:
            text: What the user wrote.
            field: Name of the setting, for the error.

        Raises:
            ConfigError: The text is something else.
        """
        host, colon, port = text.strip().rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        canonical = _canonical_host(host[1:-1] if bracketed else host)
        good_port = _is_port(port)
        if not colon or canonical is None or not good_port:
            raise ConfigError(field, repr(text[:_MAX_SHOWN]), _EXPECTED_ENDPOINT)
        if (":" in host) != bracketed:
            raise ConfigError(field, repr(text[:_MAX_SHOWN]), _EXPECTED_ENDPOINT)
        return cls(canonical, int(port))

    def __str__(self) -> str:
        """Write the form that ``parse`` reads."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else self._join()

    def _join(self) -> str:
        return f"{self.host}:{self.port}"


def pack(endpoint: Endpoint) -> bytes:
    """Encode as 4 or 16 address bytes and a 2-byte port, all big endian."""
    return host_bytes(endpoint.host) + struct.pack("!H", endpoint.port)


def unpack_untrusted(data: bytes) -> Endpoint:
    """Decode what ``pack`` wrote.

    Raises:
        RemoteProtocolError: The size is neither 6 nor 18, the port is 0, the address
            is nobody's (unspecified, multicast, broadcast, the discard prefix) or is
            an IPv4 address in IPv6 clothes, which has a shorter encoding.
    """
    size = len(data) - _PORT_SIZE
    if size not in (_IPV4_SIZE, _IPV6_SIZE):
        raise RemoteProtocolError(
            f"an endpoint takes 6 or 18 bytes, found {len(data)} bytes"
        )
    port = int.from_bytes(data[size:], "big")
    host = _host_text(bytes(data[:size]))
    if host is None or port == 0:
        raise RemoteProtocolError(
            "an endpoint names one host and a port above 0, "
            f"found {bytes(data).hex()} which does not"
        )
    return Endpoint(host, port)


@lru_cache(maxsize=_CACHED_HOSTS)
def host_bytes(host: str) -> bytes:
    """Return the 4 or 16 bytes of a numeric address.

    Raises:
        ValueError: The text is not a numeric address.
    """
    return ipaddress.ip_address(host).packed


@lru_cache(maxsize=_CACHED_HOSTS)
def is_public(host: str) -> bool:
    """Tell whether an address is reachable from the whole Internet.

    The table is our own, because the answer of Python's ``is_global`` changes between
    the versions that we run on.
    """
    # Plain numbers: a flood from forged addresses asks for one that no cache knows each
    # time (1.5 instead of 6 µs).
    packed = host_bytes(host)
    value = int.from_bytes(packed, "big")
    if len(packed) == _IPV4_SIZE:
        return not any(value & mask == start for start, mask in _IPV4_RESERVED)
    return value & _IPV6_UNICAST[1] == _IPV6_UNICAST[0] and not any(
        value & mask == start for start, mask in _IPV6_RESERVED
    )


def is_loopback(host: str) -> bool:
    """Tell whether an address never leaves its machine."""
    return host == "::1" or host.startswith("127.")


def is_link_local(host: str) -> bool:
    """Tell whether no router passes an address on (RFC 3927, RFC 4291 §2.5.6)."""
    return ipaddress.ip_address(host).is_link_local


def is_numeric(host: str) -> bool:
    """Tell whether a host is an address and no name."""
    return _canonical_host(host) is not None


def is_wildcard(host: str) -> bool:
    """Tell whether a socket bound there is at every address of its machine."""
    return host in ("0.0.0.0", "::")  # noqa: S104 - a comparison


def reaches(bound: str, host: str) -> bool:
    """Tell whether a socket bound to the first address can send to the second.

    A socket on ``::`` carries both families, as ``Network.bind`` promises.
    """
    return bound == "::" or (":" in bound) == (":" in host)


@lru_cache(maxsize=_CACHED_HOSTS)
def may_name(reporter: str, host: str) -> bool:
    """Tell whether somebody at ``reporter`` may send us to ``host``.

    Nobody sends us to an address that is no host's, and nobody from further away than
    its own reach: only whoever is in our private network knows an address there, and
    only this machine itself one of its loopback. The two are of one family.
    """
    if (":" in host) != (":" in reporter) or _is_nobodys(host):
        return False
    if is_loopback(host):
        return is_loopback(reporter)
    return is_public(host) or not is_public(reporter)


def _is_nobodys(host: str) -> bool:
    """Tell whether an address is unspecified, for groups, or never was given out."""
    address = ipaddress.ip_address(host)
    if address.is_unspecified or address.is_multicast:
        return True
    if isinstance(address, ipaddress.IPv6Address):
        return address.is_link_local
    return any(address in network for network in _IPV4_NOBODYS)


def subnet_group(host: str) -> bytes:
    """Return what addresses of one site share: the /24 of IPv4, the /48 of IPv6.

    Three bytes for IPv4 and six for IPv6, so that the two never meet.
    """
    packed = host_bytes(host)
    return packed[:3] if len(packed) == _IPV4_SIZE else packed[:6]


def site_of(host: str) -> bytes:
    """Return what one customer of a provider has: an IPv4 address or an IPv6 /64.

    Whoever has one address of a /64 has them all (RFC 4291 §2.5.4), so a limit counts
    for the site. Four bytes for IPv4 and eight for IPv6.
    """
    return host_bytes(host)[:_IPV6_SITE_SIZE]


# Asked for every contact that is named and every reply: 0.1 instead of 1 µs.
@lru_cache(maxsize=_CACHED_HOSTS)
def public_subnet(host: str) -> bytes | None:
    """Return the ``subnet_group`` of a public address; None where no cap applies."""
    return subnet_group(host) if is_public(host) else None


def carried_endpoint(number: int) -> Endpoint:
    """Return the name under which something other than our socket carries datagrams.

    From the prefix of RFC 6666, whose packets every router discards: it stands for a
    relay session or a WebSocket inside this node and never travels.
    """
    return Endpoint(str(ipaddress.IPv6Address(_CARRIED_PREFIX | number)), 1)


def is_carried(host: str) -> bool:
    """Tell whether a host is a name of ``carried_endpoint`` and no address."""
    return host.startswith("100::")


def network_of(host: str) -> bytes:
    """Return what related addresses share: /16, IPv6 /32; a private host stands alone.

    Owners of a public network hold far more than a /24; a private one is somebody's
    home or laboratory, and its hosts are all there is.
    """
    packed = host_bytes(host)
    if not is_public(host):
        return packed
    return packed[:2] if len(packed) == _IPV4_SIZE else packed[:4]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One ICE candidate for UDP and component 1 (RFC 8445 §5.1).

    Attributes:
        kind: ``host``, ``srflx``, ``prflx`` or ``relay``.
        endpoint: Where datagrams are sent to.
        priority: 1 to 2^31 - 1.
        foundation: Equal for candidates that are likely to fail together.
        related: The base of a reflexive or relayed candidate, if told.
    """

    kind: str
    endpoint: Endpoint
    priority: int
    foundation: str
    related: Endpoint | None = None


@dataclass(frozen=True, slots=True)
class IceHalf:
    """What one side contributes to an ICE session; the password is a secret."""

    ufrag: str
    password: str = field(repr=False)
    candidates: tuple[Candidate, ...]


def _is_port(text: str) -> bool:
    digits = text.isascii() and text.isdigit() and len(text) <= _PORT_DIGITS
    return digits and int(text) <= _MAX_PORT


def _canonical_host(text: str) -> str | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return None
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
    return str(address)


@lru_cache(maxsize=_CACHED_HOSTS)
def _host_text(packed: bytes) -> str | None:
    address = ipaddress.ip_address(packed)
    if address.is_unspecified or address.is_multicast:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        # A name of a carrier of ours is nobody else's to use.
        is_odd = address.ipv4_mapped or is_carried(str(address))
        return None if is_odd else str(address)
    return None if packed == b"\xff\xff\xff\xff" else str(address)


def _range(
    network: ipaddress.IPv4Network | ipaddress.IPv6Network,
) -> tuple[int, int]:
    """First address and mask of a network, as numbers."""
    return int(network.network_address), int(network.netmask)


# IANA's registry of IPv4 special-purpose addresses (RFC 6890 and successors), with
# multicast; what it calls globally reachable is not listed.
_IPV4_RESERVED = tuple(
    _range(ipaddress.IPv4Network(text))
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# "This network" and the former class E with the broadcast address (RFC 6890).
_IPV4_NOBODYS = (
    ipaddress.IPv4Network("0.0.0.0/8"),
    ipaddress.IPv4Network("240.0.0.0/4"),
)
# Only 2000::/3 is handed out (RFC 4291 §2.4); inside it Teredo and other protocol
# assignments, documentation and 6to4 are no address that a node may rely on.
_IPV6_UNICAST = _range(ipaddress.IPv6Network("2000::/3"))
_IPV6_RESERVED = tuple(
    _range(ipaddress.IPv6Network(text))
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)
