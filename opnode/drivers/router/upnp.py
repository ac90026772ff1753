"""Having a router forward a port by UPnP, through miniupnpc, in a thread.

Owns the library: its calls block for seconds, and its answers are a router's XML.
Refuses to know when a mapping is renewed and what it is for. Without the library,
which is an extra, there is no UPnP.
"""

import ipaddress
import logging
from collections.abc import Callable
from typing import Final

import trio

try:
    import miniupnpc
except ImportError:
    # It is compiled, and not everywhere there is a wheel (extra "upnp").
    miniupnpc = None  # type: ignore[assignment] # how an absent module is marked

from opnode.core.addresses import Endpoint
from opnode.core.errors import MappingRefused
from opnode.drivers.router.home_router import HomeRouter
from opnode.drivers.router.mappings import Mapped, MappingMethod

_log = logging.getLogger(__name__)

_DISCOVER_MS: Final = 2000
"""How long routers may take to answer a search; they may put it off by the two seconds
that the library grants them (UPnP Device Architecture 1.1 §1.3.2)."""

_DESCRIPTION: Final = "opnode"
_UDP: Final = "UDP"
_CONFLICTS: Final = 3
"""Ports that are tried: UPnP gives no other one by itself (error 718)."""

_FIRST_PORT, _LAST_PORT = 1024, 65_535


class UpnpControl:
    """The first UPnP router in the network of a home router."""

    def __init__(self, router: HomeRouter, random_below: Callable[[int], int]) -> None:
        """``random_below``: draws other ports where the wanted one is taken."""
        self._router = router
        self._random_below = random_below
        self._found: miniupnpc.UPnP | None = None

    async def map(
        self, internal_port: int, wanted_port: int, lifetime_s: int
    ) -> Mapped:
        """See `PortMapper.map`."""
        ports = [wanted_port]
        span = _LAST_PORT - _FIRST_PORT + 1
        while len(ports) < _CONFLICTS:
            ports.append(_FIRST_PORT + self._random_below(span))
        return await trio.to_thread.run_sync(
            self._map, internal_port, ports, lifetime_s, abandon_on_cancel=True
        )

    async def unmap(self, mapped: Mapped) -> None:
        """See `PortMapper.unmap`."""
        await trio.to_thread.run_sync(
            self._unmap, mapped.external.port, abandon_on_cancel=True
        )

    # In a thread.

    def _map(self, internal_port: int, ports: list[int], lifetime_s: int) -> Mapped:
        # A search takes two seconds; what was found is good until it fails.
        router = self._found or self._find()
        self._found = None
        for port in ports:
            granted_s = _add(router, port, internal_port, lifetime_s)
            if granted_s is not None:
                external = Endpoint(_external_host(router), port)
                self._found = router
                return Mapped(
                    method=MappingMethod.UPNP,
                    router=self._router.host,
                    internal_port=internal_port,
                    external=external,
                    lifetime_s=granted_s,
                )
        raise MappingRefused(f"{self._router.host} refuses by UPnP")

    def _unmap(self, port: int) -> None:
        try:
            (self._found or self._find()).deleteportmapping(port, _UDP)
        except Exception as error:  # noqa: BLE001 - what the library raises
            _log.info("a UPnP mapping was left to expire: %s", error)

    def _find(self) -> "miniupnpc.UPnP":
        if miniupnpc is None:
            raise MappingRefused("UPnP needs the extra: pip install opnode[upnp]")
        router = miniupnpc.UPnP(
            multicastif=self._router.ours, discoverdelay=_DISCOVER_MS
        )
        try:
            router.discover()
            router.selectigd()
        except Exception:  # noqa: BLE001 - the library raises Exception("Success")
            raise MappingRefused("no router answers UPnP") from None
        if router.lanaddr != self._router.ours:
            # It was found, but by another interface: it would forward to nobody.
            raise MappingRefused("the UPnP router is in another network")
        return router


def _add(
    router: "miniupnpc.UPnP", port: int, internal_port: int, lifetime_s: int
) -> int | None:
    """The lifetime granted, 0 for ever; None where the port was refused."""
    for asked_s in (lifetime_s, 0):
        # Old routers know permanent mappings alone (error 725).
        try:
            if router.addportmapping(
                port, _UDP, router.lanaddr, internal_port, _DESCRIPTION, "", asked_s
            ):
                return asked_s
        except Exception as error:  # noqa: BLE001 - what the library raises
            _log.info("UPnP port %d for %d s: %s", port, asked_s, error)
    return None


def _external_host(router: "miniupnpc.UPnP") -> str:
    """The router's own word on its address.

    Raises:
        MappingRefused: it knows none.
    """
    try:
        return str(ipaddress.IPv4Address(router.externalipaddress()))
    except Exception:  # noqa: BLE001 - what the library raises, or no address
        raise MappingRefused("the UPnP router knows no external address") from None
