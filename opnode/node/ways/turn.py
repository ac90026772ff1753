"""The ways of a meeting through TURN servers, ours and the peer's.

Owns which paths are tried for one meeting: to the peer's relayed address, and through
our own server. Refuses to know how servers are spoken to (`drivers/turn/turn.py`) and
which of a connection's paths carries data.
"""

from collections.abc import Iterable
from typing import Final

import trio
from aioice.candidate import candidate_priority

from opnode.core.addresses import Candidate, Endpoint
from opnode.core.errors import IceFailed, PeerUnreachable
from opnode.drivers.connection_paths import Path, PathKind
from opnode.drivers.ice.ice import IceAgent
from opnode.drivers.turn.checks import RelayedChecks
from opnode.drivers.turn.turn import TurnClient
from opnode.node.ways.ways import NO_WORDS, WayHost, Words

_FIRST_CHECK_S: Final = 0.2
"""First repetition of a check: its way is longer than the direct one by two hops."""

_HOPE_S: Final = 8.0
"""How long a meeting without any path waits for somebody's relayed address: as long as
the direct checks take to fail, and a server needs to be given up (`TurnConfig`)."""

_MAX_PATHS: Final = 4
"""The peer's server, two through ours, and one more port of a peer behind a NAT that
gives each address its own."""


class TurnWays:
    """Makes a way through TURN for each meeting; without any server it does nothing."""

    def __init__(self, client: TurnClient, ice: IceAgent) -> None:
        self._client = client
        self._ice = ice

    def new_way(self, heard: Words | None) -> "TurnMeetingWay":
        """See `WayMaker.new_way`."""
        return TurnMeetingWay(self._client, self._ice, heard or NO_WORDS)


class TurnMeetingWay:
    """What one meeting does about TURN."""

    def __init__(self, client: TurnClient, ice: IceAgent, heard: Words) -> None:
        self._client = client
        self._ice = ice
        # An answer is on its way for a round trip: our server lets the caller through
        # before it hears of us.
        self._turn = client.open_way(heard.candidates)
        self._told: Endpoint | None = None
        self._host: WayHost
        self._checks: RelayedChecks
        self._nursery: trio.Nursery
        self._tried: set[Endpoint] = set()
        self._proven: set[Endpoint] = set()
        self._under_way = 0
        self._has_failed = False

    def opening(self) -> Words:
        """Our relayed address, if there is one at this moment."""
        return Words(candidates=self._own_candidates())

    async def run(self, host: WayHost) -> None:
        """Prove paths as they become known.

        Raises:
            PeerUnreachable: there was something to try, and it did not work.
        """
        self._host = host
        self._checks = RelayedChecks(
            self._ice.island,
            self._ice.context,
            local=host.own_ice,
            remote=host.peer_ice,
            is_initiator=host.is_initiator,
            on_heard=self._on_heard,
        )
        self._ice.add_answerer(self._checks)
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._follow_peer)
                nursery.start_soon(self._follow_server)
                await trio.sleep(_HOPE_S)
                if host.connection.path is None and not self._proven:
                    nursery.cancel_scope.cancel()
        finally:
            self._ice.remove_answerer(self._checks)
        if self._has_failed:
            raise PeerUnreachable("no TURN server led to the peer")

    async def aclose(self) -> None:
        """No longer let the peer through."""
        self._turn.close()
        await trio.lowlevel.checkpoint()

    async def _follow_peer(self) -> None:
        heard = self._host.heard
        while True:
            self._turn.add(heard.candidates)
            self._try(self._turn.endpoints())
            heard = await self._host.wait_heard()
            # What the peer signals is under the keys of both: no replay of an offer.
            self._checks.trust()

    async def _follow_server(self) -> None:
        """Tell the peer of a relayed address that the offer or answer did not name."""
        while True:
            words = self._own_candidates()
            if words:
                self._host.tell(Words(candidates=words))
            self._try(self._turn.endpoints())
            await self._client.wait_changed()

    def _own_candidates(self) -> tuple[Candidate, ...]:
        """Our relayed address, if there is one that the peer was not told."""
        relayed = self._client.relayed
        if relayed is None or relayed == self._told:
            return ()
        self._told = relayed
        candidate = Candidate(
            kind="relay",
            endpoint=relayed,
            priority=candidate_priority(1, "relay"),
            foundation="r0",
        )
        return (candidate,)

    def _on_heard(self, source: Endpoint) -> None:
        """The peer asked from there: its NAT may have given it another port."""
        self._try([source])

    def _try(self, endpoints: Iterable[Endpoint]) -> None:
        for endpoint in endpoints:
            has_room = self._under_way + len(self._proven) < _MAX_PATHS
            if endpoint not in self._tried and has_room:
                self._tried.add(endpoint)
                self._under_way += 1
                self._nursery.start_soon(self._prove, endpoint)

    async def _prove(self, endpoint: Endpoint) -> None:
        try:
            rtt_s = await self._checks.prove(endpoint, _FIRST_CHECK_S)
        except IceFailed:
            self._has_failed = True
            # Its check makes us try again.
            self._tried.discard(endpoint)
        else:
            self._proven.add(endpoint)
            self._host.add_path(Path(PathKind.TURN, endpoint), rtt_s=rtt_s)
        self._under_way -= 1
