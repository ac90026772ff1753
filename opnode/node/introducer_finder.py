"""Through whom a location can be reached: ours now, and a peer's that moved on.

Owns the two questions, not the answers: presences are published and looked up by
others. Refuses to know what is sent through introducers.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from opnode.core.addresses import Endpoint
from opnode.core.ids import PeerId
from opnode.core.peerfile import IntroducerEntry, LocationCertificate, Presence


class FoundPeer(Protocol):
    """What a lookup brings."""

    @property
    def presences(self) -> tuple[Presence, ...]:
        """All locations of the peer."""
        ...


class OwnPresence(Protocol):
    """What we publish of ourselves."""

    @property
    def introducers(self) -> tuple[IntroducerEntry, ...]:
        """Where we are registered now."""
        ...


class IntroducerFinder:
    """Asks who introduces to us, and to others."""

    def __init__(
        self,
        lookup: Callable[[PeerId], Awaitable[FoundPeer]],
        presence: OwnPresence | None,
    ) -> None:
        self._lookup = lookup
        self._presence = presence

    def own(self) -> tuple[Endpoint, ...]:
        """Where our introducers are; none before the first registration."""
        if self._presence is None:
            return ()
        return tuple(entry.endpoint for entry in self._presence.introducers)

    async def find(self, certificate: LocationCertificate) -> tuple[Endpoint, ...]:
        """Where a location is registered now, by a lookup.

        Raises:
            RecordNotFound: nothing is published of its identity.
            PeerUnreachable: there is nobody to ask.
        """
        view = await self._lookup(certificate.peer_id)
        return tuple(
            entry.endpoint
            for presence in view.presences
            if presence.certificate.static_public == certificate.static_public
            for entry in presence.introducers
        )
