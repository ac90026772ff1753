"""Who is on our own links: peers to call without anybody's help, nodes to join through.

Owns where neighbours reach us and what is made of those found. Refuses to know how they
are asked, and how a call is made.
"""

from collections.abc import Callable, Sequence
from typing import Final

from opnode.core.addresses import Endpoint, is_link_local, is_wildcard, may_name
from opnode.core.ids import PeerId
from opnode.core.interfaces import InterfaceAddress, InterfaceKind
from opnode.core.peerfile import Location, Presence
from opnode.drivers.lan.lan import Lan
from opnode.node.acquaintances import Acquaintances
from opnode.node.bootstrap import BootstrapEntry
from opnode.node.network_watch import NetworkChange

MAX_OWN: Final = 4
"""Our addresses that a neighbour is told, those of its own subnet first."""


class OwnEndpoints:
    """Where our socket is reached on each link; looked up when the links change."""

    def __init__(
        self, local: Endpoint, look: Callable[[], Sequence[InterfaceAddress]]
    ) -> None:
        self._local = local
        self._look = look
        self._links: tuple[InterfaceAddress, ...] = ()
        self._near: tuple[InterfaceAddress, ...] = ()

    def refresh(self) -> tuple[InterfaceAddress, ...]:
        """Look at the interfaces; those of real links that our socket listens at."""
        bound = self._local.host
        is_wild = is_wildcard(bound)
        self._near = tuple(
            one for one in self._look() if one.kind is InterfaceKind.LINK
        )
        self._links = tuple(
            one
            for one in self._near
            if (is_wild or one.host == bound)
            and (bound == "::" or (":" in one.host) == (":" in bound))
        )
        return self._links

    def towards(self, host: str) -> list[Endpoint]:
        """Where a neighbour at this address reaches us, the nearest first.

        Nowhere for others: the port is open to the whole Internet, which is not to
        learn by asking each address who is there.
        """
        if not (is_link_local(host) or any(one.is_near(host) for one in self._near)):
            return []
        named = [one for one in self._links if may_name(host, one.host)]
        named.sort(key=lambda one: not one.is_near(host))
        return [Endpoint(one.host, self._local.port) for one in named[:MAX_OWN]]


class Neighbours:
    """Finds peers and nodes on our links."""

    def __init__(self, lan: Lan, acquaintances: Acquaintances) -> None:
        self.lan = lan
        self._acquaintances = acquaintances

    def adopt(self, location: Location) -> None:
        """Answer with a renewed certificate from now on."""
        self.lan.desk.location = location

    def network_changed(self, change: NetworkChange) -> None:
        """Ask and listen at the links of now."""
        if change is not NetworkChange.SEEN_ELSEWHERE:
            self.lan.interfaces_changed()

    async def find(self, peer_id: PeerId) -> Presence | None:
        """A location of this identity on our links, to be called directly."""
        found = await self.lan.seek(peer_id)
        if found is None or not found.endpoints:
            return None
        self._acquaintances.seen_near(found.certificate, found.endpoints)
        return Presence(certificate=found.certificate, introducers=(), capabilities=0)

    async def entries(self) -> list[BootstrapEntry]:
        """A server on our links, as an entry that pins its key."""
        found = await self.lan.greet()
        if found is None:
            return []
        return [BootstrapEntry(found.public_key, *found.endpoint)]
