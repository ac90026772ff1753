"""One UDP socket for IPv4 and IPv6: opening it, and how it writes IPv4 addresses.

Owns the IPv4-mapped form (RFC 4291 §2.5.5.2), which no other part of the node ever
sees. Refuses to send or receive anything.
"""

import contextlib
import logging
import socket
from typing import Final

from opnode.core.addresses import Endpoint

_log = logging.getLogger(__name__)

EVERYWHERE: Final = "::"
"""Bound to it, a socket is at every IPv6 and every IPv4 address of its host."""

_EVERYWHERE_IPV4: Final = "0.0.0.0"  # noqa: S104 - that is what it is for
_MAPPED: Final = "::ffff:"


def open_socket(endpoint: Endpoint) -> socket.socket:
    """Open and bind a socket that does not block.

    At ``::`` it carries both IP versions; where the system has no IPv6, IPv4 alone. At
    any other address it carries the version of that address.

    Raises:
        OSError: the address is in use or not ours.
    """
    if endpoint.host != EVERYWHERE:
        return _open(endpoint)
    try:
        return _open(endpoint)
    except OSError as error:
        if _has_ipv6():
            raise
        _log.info("no IPv6 here (%s): listening on IPv4 alone", error.strerror)
    return _open(endpoint._replace(host=_EVERYWHERE_IPV4))


def carries_both(raw: socket.socket) -> bool:
    """Whether IPv4 addresses are written as mapped ones on this socket."""
    if raw.family != socket.AF_INET6:
        return False
    is_v6_only = raw.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    return not is_v6_only


def to_raw(endpoint: Endpoint) -> tuple[str, int]:
    """An address as such a socket wants it."""
    host, port = endpoint
    return (host if ":" in host else _MAPPED + host, port)


def from_raw(address: tuple[str, int]) -> Endpoint:
    """The canonical form of what such a socket gives: IPv4 is IPv4."""
    host = address[0]
    # The C library writes mapped addresses in this one way.
    if host.startswith(_MAPPED) and "." in host:
        host = host[len(_MAPPED) :]
    return Endpoint(host, address[1])


def _open(endpoint: Endpoint) -> socket.socket:
    is_v6 = ":" in endpoint.host
    raw = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if is_v6:
            raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if endpoint.host == EVERYWHERE:
            # OpenBSD has no sockets for both; IPv6 alone is what is left there.
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        raw.setblocking(False)
        raw.bind(endpoint)
    except OSError:
        raw.close()
        raise
    return raw


def _has_ipv6() -> bool:
    """Whether the system can bind IPv6 at all; then an error is about the port."""
    try:
        _open(Endpoint(EVERYWHERE, 0)).close()
    except OSError:
        return False
    return True
