"""What makes ways between two locations, beside the direct one that ICE finds.

Owns the words that a relay, a TURN server or a WebSocket needs with a meeting, so that
they plug in without the meeting knowing them. Refuses to know what each of them does.
"""

from dataclasses import dataclass
from typing import Final, Protocol

from opnode.core.addresses import Candidate, IceHalf
from opnode.drivers.connection_paths import Path
from opnode.drivers.connections import Connection
from opnode.protocols.introductions.messages import NO_RENDEZVOUS, Rendezvous


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What one end tells the other about how it can be reached.

    Attributes:
        candidates: for ICE; those of kind "relay" are addresses at TURN servers.
        rendezvous: introducers and relay sessions.
    """

    candidates: tuple[Candidate, ...] = ()
    rendezvous: Rendezvous = NO_RENDEZVOUS


NO_WORDS: Final = Words()


class WayHost(Protocol):
    """The meeting that a way works for: two ends who share keys already."""

    @property
    def connection(self) -> Connection:
        """Whose packets shall find a way."""
        ...

    @property
    def own_ice(self) -> IceHalf:
        """What we said for ICE: its credentials are good for other checks, too."""
        ...

    @property
    def peer_ice(self) -> IceHalf:
        """What the other end said for ICE."""
        ...

    @property
    def is_initiator(self) -> bool:
        """Whether we made the offer."""
        ...

    @property
    def heard(self) -> Words:
        """The newest words of the other end."""
        ...

    async def wait_heard(self) -> Words:
        """Wait for newer words of the other end, which come by signals."""
        ...

    def add_path(self, path: Path, *, rtt_s: float | None = None) -> bool:
        """Let packets take a path that is known to lead to the other end.

        The first one of all ways carries data at once; between several their kinds
        decide, then their round trips. ``rtt_s`` is a first guess in seconds. False
        when the connection has no room for it.
        """
        ...

    def tell(self, words: Words) -> None:
        """Tell the other end what became known only now; added to what it knows."""
        ...


class Way(Protocol):
    """One kind of way for one meeting, from before the offer until the end."""

    def opening(self) -> Words:
        """What goes into our offer or answer; asked once, before it is sealed.

        Nothing is waited for: what takes time is told later, by `WayHost.tell`.
        """
        ...

    async def run(self, host: WayHost) -> None:
        """Make paths and keep them; cancelled when the connection is over.

        Runs beside the other ways, from the moment when both ends share keys. An
        ``OpnodeError`` ends this way only.
        """
        ...

    async def aclose(self) -> None:
        """Let go of what was begun; also when ``run`` was never called."""
        ...


class WayMaker(Protocol):
    """One kind of way; makes one for each meeting."""

    def new_way(self, heard: Words | None) -> Way:
        """Begin a way: for an offer with None, for an answer with the offer's words."""
        ...
