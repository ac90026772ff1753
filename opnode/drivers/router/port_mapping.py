"""A port of the home router that leads to our socket, kept for as long as we run.

Owns who is asked in which order, renewal and return. Refuses to know how routers are
asked (`router_control.py`, `upnp.py`) and what the address is used for. Best effort:
nothing waits for it, and without it there are other ways.
"""

import enum
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import trio

from opnode.core.addresses import (
    Endpoint,
    is_loopback,
    is_public,
    pack,
    unpack_untrusted,
)
from opnode.core.errors import MappingRefused, RemoteProtocolError
from opnode.drivers.router.mappings import Mapped, MappingMethod, PortMapper

_log = logging.getLogger(__name__)


class MappingState(enum.Enum):
    """How far we are.

    OFF: not wanted. ASKING: no router has answered yet. MAPPED: one forwards a public
    address to us. BEHIND_ANOTHER: it does, but has no public address itself, as behind
    a provider's NAT. NONE: there is no router that would.
    """

    OFF = "off"
    ASKING = "asking"
    MAPPED = "mapped"
    BEHIND_ANOTHER = "behind another NAT"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class PortMappingStatus:
    """What became of it, for people.

    ``external`` is what the router gave, ``reason`` why there is nothing.
    """

    state: MappingState
    method: MappingMethod | None = None
    router: str | None = None
    external: Endpoint | None = None
    lifetime_s: int = 0
    reason: str = ""


MAPPING_OFF = PortMappingStatus(state=MappingState.OFF)


@dataclass(frozen=True, slots=True, kw_only=True)
class PortMappingConfig:
    """Times.

    ``lifetime_s``: asked for, renewed at half: a router that was restarted has
    forgotten us for ten minutes at most, and one that we left silently forgets us soon.
    ``retry_s``: after all refused; routers do not change their minds often, and a
    change of network asks at once.
    ``attempt_s``: one way of asking, UPnP's seconds of search included.
    ``leave_s``: giving the port back.
    """

    lifetime_s: int = 1200
    retry_s: float = 900.0
    attempt_s: float = 15.0
    leave_s: float = 1.0


class PortMapping:
    """Keeps one mapping to our port.

    Attributes:
        on_mapped: called with the public address, or with None when it is lost.
    """

    def __init__(
        self,
        internal_port: int,
        find_mappers: Callable[[], Sequence[PortMapper]],
        config: PortMappingConfig | None = None,
    ) -> None:
        """``find_mappers``: whom to ask in the network where we are, the best first."""
        self.on_mapped: Callable[[Endpoint | None], None] = _ignore
        self._internal_port = internal_port
        self._find_mappers = find_mappers
        self._config = config or PortMappingConfig()
        self._status = PortMappingStatus(state=MappingState.ASKING)
        self._held: tuple[PortMapper, Mapped] | None = None
        self._again = trio.Event()

    @property
    def status(self) -> PortMappingStatus:
        """What became of it so far."""
        return self._status

    def look_again(self) -> None:
        """We may be in another network: ask now."""
        self._again.set()

    async def run(self) -> None:
        """Get a mapping and keep it, until cancelled."""
        config = self._config
        while True:
            self._again = trio.Event()
            held = await self._renew() or await self._get()
            self._hold(held)
            wait_s = config.retry_s
            if held is not None:
                wait_s = (held[1].lifetime_s or config.lifetime_s) / 2
            with trio.move_on_after(wait_s):
                await self._again.wait()

    async def leave(self) -> None:
        """Give the port back; bounded."""
        if self._held is None:
            return
        mapper, mapped = self._held
        self._hold(None)
        with trio.move_on_after(self._config.leave_s):
            try:
                await mapper.unmap(mapped)
            except MappingRefused as refusal:
                _log.info("a mapping was left to expire: %s", refusal)

    async def _renew(self) -> tuple[PortMapper, Mapped] | None:
        """Ask whoever forwards to us; None when that is nobody, or no longer."""
        if self._held is None:
            return None
        mapper, before = self._held
        mapped = await self._ask(mapper, before.external.port)
        return None if mapped is None else (mapper, mapped)

    async def _get(self) -> tuple[PortMapper, Mapped] | None:
        """Ask everybody, one after the other."""
        mappers = self._find_mappers()
        if not mappers:
            self._refused("no router with a private address")
        for mapper in mappers:
            mapped = await self._ask(mapper, self._internal_port)
            if mapped is not None:
                return mapper, mapped
        return None

    async def _ask(self, mapper: PortMapper, wanted_port: int) -> Mapped | None:
        config = self._config
        try:
            with trio.fail_after(config.attempt_s):
                mapped = await mapper.map(
                    self._internal_port, wanted_port, config.lifetime_s
                )
            return _checked_untrusted(mapped)
        except MappingRefused as refusal:
            self._refused(str(refusal))
        except trio.TooSlowError:
            self._refused("the router does not answer")
        return None

    def _refused(self, reason: str) -> None:
        self._status = replace(self._status, reason=reason)

    def _hold(self, held: tuple[PortMapper, Mapped] | None) -> None:
        """Tell of a change."""
        before = self._held[1].external if self._held else None
        self._held = held
        if held is None:
            reason = self._status.reason
            self._status = PortMappingStatus(state=MappingState.NONE, reason=reason)
        else:
            self._status = _status_of(held[1])
        now = held[1].external if held else None
        if now != before:
            _log.info("the router forwards %s to us", now or "nothing")
            self.on_mapped(now)


def _checked_untrusted(mapped: Mapped) -> Mapped:
    """The same; but a router without a line says 0.0.0.0, which no peer could be told.

    Raises:
        MappingRefused: what the router forwards is no address of a host.
    """
    external = mapped.external
    try:
        unpack_untrusted(pack(external))
    except RemoteProtocolError:
        is_nobodys = True
    else:
        is_nobodys = is_loopback(external.host)
    if is_nobodys:
        raise MappingRefused(f"{mapped.router} has no address but {external}")
    return mapped


def _status_of(mapped: Mapped) -> PortMappingStatus:
    is_direct = is_public(mapped.external.host)
    return PortMappingStatus(
        state=MappingState.MAPPED if is_direct else MappingState.BEHIND_ANOTHER,
        method=mapped.method,
        router=mapped.router,
        external=mapped.external,
        lifetime_s=mapped.lifetime_s,
    )


def _ignore(_: Endpoint | None) -> None:
    pass
