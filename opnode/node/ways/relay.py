"""Ways by relays: for each meeting, a session that both ends join.

Owns which relay is taken, when it is joined, left and joined again, and what the other
end is told of it. Refuses to know frames and joins (`opnode.drivers.relay.path`), and
which path carries data: a relayed one ranks last.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final

import trio

from opnode.core.addresses import Endpoint, is_carried, is_public
from opnode.core.errors import NetworkError, RequestTimeout
from opnode.drivers.connection_paths import Path, PathKind
from opnode.drivers.connections import Connection
from opnode.drivers.relay.path import (
    RelayPaths,
    RelayPathStatistics,
    RelaySession,
    RelayState,
)
from opnode.drivers.rpc.rpc import Rpc
from opnode.drivers.services import Services
from opnode.node.ways.ways import NO_WORDS, Way, WayHost, Words
from opnode.protocols.introductions.messages import RelayPoint, Rendezvous
from opnode.protocols.relay import RelayEnd
from opnode.protocols.rpc.messages import Service

_GENTLE: Final = (RelayEnd.LEFT, RelayEnd.ALONE)
"""Ends that are no fault of the relay: both may come back to the same session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayWayConfig:
    """When relays are taken and let go.

    Attributes:
        warm_s: how long a session is kept after a better path took over. A path that
            works for a minute has outlived the mapping that some NATs give a new flow;
            a relay that is kept for ever costs its operator a place.
        silent_s: a path in use that answers nothing for so long, and two round trips,
            needs another beside it: longer than a burst of losses, shorter than
            people's patience.
        look_s: between two looks at the path in use.
        patience_s: for so long a search waits for a direct path, when no relay was
            known in advance.
        first_retry_s: after a session failed, before the next is tried; doubled each
            time, up to ``retry_s``.
        retry_s: see above.
        avoid_s: a relay that refused us, reached a limit or fell silent is not taken
            for so long, while there is another.
        max_avoided: such relays remembered.
        max_joined: sessions of one meeting at a time: one that fell silent, and one
            that each end chose to replace it.
    """

    warm_s: float = 60.0
    silent_s: float = 1.0
    look_s: float = 0.5
    patience_s: float = 0.5
    first_retry_s: float = 1.0
    retry_s: float = 60.0
    avoid_s: float = 300.0
    max_avoided: int = 64
    max_joined: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayUse:
    """What relays others run do for us.

    Attributes:
        sessions: that we are in now.
        failures: how often which error ended one.
        last_failure: in words; empty if there was none.
    """

    sessions: tuple[RelayPathStatistics, ...]
    failures: tuple[tuple[str, int], ...]
    last_failure: str


class RelayWays:
    """Makes such ways; knows which relays are to be avoided."""

    def __init__(
        self,
        paths: RelayPaths,
        services: Services,
        rpc: Rpc,
        rng: random.Random,
        config: RelayWayConfig | None = None,
    ) -> None:
        self.on_out_of_reach: Callable[[Endpoint], None] = _nothing
        self.paths = paths
        self.config = config or RelayWayConfig()
        self._services = services
        self._rpc = rpc
        self._rng = rng
        self._avoided: dict[Endpoint, float] = {}
        self._failures: Counter[str] = Counter()
        self._last_failure = ""

    def new_way(self, heard: Words | None) -> Way:
        """See `WayMaker.new_way`."""
        return RelayWay(self, heard)

    @property
    def is_needed(self) -> bool:
        """Whether strangers do not reach us, as far as is known."""
        return self._rpc.leaf

    def statistics(self) -> RelayUse:
        """Read the counters."""
        return RelayUse(
            sessions=self.paths.statistics(),
            failures=tuple(sorted(self._failures.items())),
            last_failure=self._last_failure,
        )

    def may_join(self, relay: Endpoint) -> bool:
        """Whether the other end's word is enough to send a join to this address."""
        return self._rpc.may_be_sent_to(relay)

    def is_strange(self, relay: Endpoint) -> bool:
        """Whether nobody ever answered us there."""
        return self._rpc.last_heard(relay) is None

    def is_in_reach(self, relay: Endpoint) -> bool:
        """Whether frames of ours get there; if not, it is tried to change that."""
        is_in_reach = self._rpc.detour.reaches(relay)
        if not is_in_reach:
            self.on_out_of_reach(relay)
        return is_in_reach

    def kind_of(self, relay: Endpoint) -> PathKind:
        """What our own half of the way to the other end is, as it begins."""
        is_around = relay in self._rpc.detour.gateways
        return PathKind.WEBSOCKET if is_around else PathKind.RELAY

    def is_cut_off(self, endpoint: Endpoint) -> bool:
        """Whether no UDP gets there, as far as is known; within a house it may."""
        by_udp = not is_carried(endpoint.host) and is_public(endpoint.host)
        return by_udp and not self._rpc.detour.reaches(endpoint)

    def choose(
        self, besides: Collection[Endpoint] = (), *, takes_avoided: bool = True
    ) -> Endpoint | None:
        """A relay that is known: of two drawn by chance the nearer one.

        So the load is shared, and few are sent around the world. One that is to be
        avoided is better than none, if the caller says so.
        """
        reaches = self._rpc.detour.reaches
        known = [
            contact.endpoint
            for contact in self._services.known(Service.RELAY)
            if contact.endpoint not in besides and reaches(contact.endpoint)
        ]
        now = trio.current_time()
        good = [e for e in known if self._avoided.get(e, now) <= now]
        if takes_avoided and not good:
            good = known
        drawn = self._rng.sample(good, min(len(good), 2))
        return min(drawn, key=self._distance_s, default=None)

    def _distance_s(self, relay: Endpoint) -> float:
        round_trip_s = self._rpc.round_trip_to(relay)
        return math.inf if round_trip_s is None else round_trip_s

    async def find(self, besides: Collection[Endpoint] = ()) -> Endpoint | None:
        """Look for a relay that is not to be avoided, and choose."""
        count = len(self._avoided.keys() | set(besides)) + 1
        await self._services.find(Service.RELAY, count)
        return self.choose(besides)

    def failed(self, session: RelaySession) -> None:
        """A session ended by itself: take another relay for a while."""
        relay = session.relay
        self._failures[type(session.error).__name__] += 1
        self._last_failure = str(session.error)
        self._avoided.pop(relay, None)
        self._avoided[relay] = trio.current_time() + self.config.avoid_s
        if len(self._avoided) > self.config.max_avoided:
            del self._avoided[next(iter(self._avoided))]
        if isinstance(session.error, RequestTimeout):
            self._services.forget(relay)
        self._services.hear_of([contact.endpoint for contact in session.alternates])


class RelayWay:
    """The relay sessions of one meeting."""

    def __init__(self, ways: RelayWays, heard: Words | None) -> None:
        """Join what the caller named at once: both ends are there sooner."""
        self._ways = ways
        self._config = ways.config
        self._sessions: dict[bytes, RelaySession] = {}
        self._added: set[bytes] = set()
        # What we chose, to be told; and all that both know, to come back to.
        self._own: list[RelayPoint] = []
        self._known: dict[bytes, RelayPoint] = {}
        self._wake = trio.Event()
        self._better_since: float | None = None
        self._spare_since: float | None = None
        self._retry_at = 0.0
        self._retry_s = ways.config.first_retry_s
        # Until the caller has shown that it has the keys, each host that it names gets
        # one packet: its candidates are checked already.
        self._is_proven = False
        self._named: set[str] = set()
        if heard is not None:
            self._named = {one.endpoint.host for one in heard.candidates}
            self._join_all(heard.rendezvous.relays)

    def opening(self) -> Words:
        """See `Way.opening`: what we chose, if the other end chose nothing."""
        if not self._sessions and self._ways.is_needed:
            relay = self._ways.choose()
            if relay is not None:
                self._join_new(relay)
        return self._words()

    async def run(self, host: WayHost) -> None:
        """See `Way.run`.

        Raises:
            NetworkError: there is no relay, nor any other path yet.
        """
        self._retry_at = trio.current_time() + self._config.patience_s
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hear, host)
            await self._follow(host)
            nursery.cancel_scope.cancel()
        raise NetworkError("no relay is known to pass packets on")

    async def aclose(self) -> None:
        """See `Way.aclose`."""
        await trio.lowlevel.checkpoint()
        for session in tuple(self._sessions.values()):
            session.leave()
        self._sessions.clear()

    # --- following the connection -----------------------------------------------------

    async def _hear(self, host: WayHost) -> None:
        if host.is_initiator:
            # The answer was made for our offer of now.
            self._trust()
        self._join_all(host.heard.rendezvous.relays)
        while True:
            words = await host.wait_heard()
            self._trust()
            self._join_all(words.rendezvous.relays)
            self._wake.set()

    async def _follow(self, host: WayHost) -> None:
        """Go on until there is nothing to follow: no path, and no relay to make one."""
        while True:
            self._settle(host)
            if self._is_due(host):
                await self._begin_again(host)
                if not self._sessions and host.connection.path is None:
                    return
            with trio.move_on_after(self._config.look_s):
                await self._wake.wait()
            self._wake = trio.Event()

    def _settle(self, host: WayHost) -> None:
        """Bring the connection's paths in line with the sessions; let go of them."""
        if not self._is_proven and host.connection.confirmed.is_set():
            self._trust()
            self._join_all(host.heard.rendezvous.relays)
        for name, session in tuple(self._sessions.items()):
            if session.is_open and name not in self._added:
                kind = self._ways.kind_of(session.relay)
                path = Path(kind, session.endpoint, session.relay)
                if host.add_path(path):
                    self._added.add(name)
            elif session.state is RelayState.ENDED:
                self._drop(host, session)
        now = trio.current_time()
        if not self._has_better(host):
            self._better_since = None
        elif self._better_since is None:
            self._better_since = now
        elif now >= self._better_since + self._config.warm_s:
            self._let_go(host)
        self._drop_spares(host, now)

    def _drop_spares(self, host: WayHost, now: float) -> None:
        """Of several sessions one is enough: the one in use, once that is stable."""
        path = host.connection.path
        used = path.endpoint if path is not None else None
        spares = [s for s in self._sessions.values() if s.is_open]
        is_calm = len(spares) > 1 and not self._is_silent(host.connection)
        if not is_calm or used not in {session.endpoint for session in spares}:
            self._spare_since = None
        elif self._spare_since is None:
            self._spare_since = now
        elif now >= self._spare_since + self._config.warm_s:
            for session in spares:
                if session.endpoint != used:
                    self._leave(host, session)

    def _has_better(self, host: WayHost) -> bool:
        """Whether another path carries data both ways."""
        connection = host.connection
        path = connection.path
        if path is None or path.kind.rank >= PathKind.RELAY.rank:
            return False
        active = connection.paths()[0]
        return bool(active.bytes_received) and not self._is_silent(connection)

    def _is_silent(self, connection: Connection) -> bool:
        path = connection.path
        if path is not None and self._ways.is_cut_off(path.endpoint):
            return True
        silent_s = connection.silent_s
        if silent_s <= self._config.silent_s:
            return False
        rtt_s = connection.statistics().smoothed_rtt_s or 0.0
        return silent_s > self._config.silent_s + 2 * rtt_s

    def _is_due(self, host: WayHost) -> bool:
        """Whether a session is to be begun now, perhaps beside a silent one."""
        connection = host.connection
        path = connection.path
        if trio.current_time() < self._retry_at:
            return False
        if path is not None and self._is_silent(connection):
            return len(self._sessions) < self._config.max_joined
        if self._sessions:
            return False
        return path is None or path.kind.rank >= PathKind.RELAY.rank

    async def _begin_again(self, host: WayHost) -> None:
        """Go back to the session that both know; else choose one and tell of it."""
        self._retry_at = trio.current_time() + self._retry_s
        self._retry_s = min(2 * self._retry_s, self._config.retry_s)
        if self._known.keys() - self._sessions.keys():
            self._join_all(tuple(self._known.values()))
            return
        if not (self._ways.is_needed or host.is_initiator):
            return
        in_use = {session.relay for session in self._sessions.values()}
        relay = self._ways.choose(in_use, takes_avoided=False)
        if relay is None:
            relay = await self._ways.find(in_use)
        if relay is not None:
            self._join_new(relay)
            host.tell(self._words())

    def _drop(self, host: WayHost, session: RelaySession) -> None:
        """A session is over: its path leads nowhere, and its relay is avoided."""
        name = session.name
        del self._sessions[name]
        self._added.discard(name)
        # The peer's packets may have opened it without our adding it.
        host.connection.remove_path(session.endpoint)
        if session.end in _GENTLE:
            return
        self._known.pop(name, None)
        self._own = [point for point in self._own if point.session != name]
        self._ways.failed(session)

    def _let_go(self, host: WayHost) -> None:
        """The better path is stable: the relay need not be kept for us."""
        for session in tuple(self._sessions.values()):
            self._leave(host, session)
        self._retry_s = self._config.first_retry_s

    def _leave(self, host: WayHost, session: RelaySession) -> None:
        host.connection.remove_path(session.endpoint)
        session.leave()
        self._sessions.pop(session.name, None)
        self._added.discard(session.name)

    # --- joining ----------------------------------------------------------------------

    def _words(self) -> Words:
        if not self._own:
            return NO_WORDS
        return Words(rendezvous=Rendezvous(relays=tuple(self._own[-1:])))

    def _join_new(self, relay: Endpoint) -> None:
        point = RelayPoint(relay, self._ways.paths.draw_name())
        self._own.append(point)
        self._join(point)

    def _join_all(self, points: Iterable[RelayPoint]) -> None:
        for point in points:
            is_ours = point in self._own
            if not (is_ours or self._ways.may_join(point.endpoint)):
                continue
            if not is_ours and not self._may_write_to(point):
                continue
            if self._ways.is_in_reach(point.endpoint):
                self._join(point)
            else:
                self._note(point)

    def _may_write_to(self, point: RelayPoint) -> bool:
        """Whether a host that the peer named has not been written to for it."""
        host = point.endpoint.host
        if self._is_proven or not self._ways.is_strange(point.endpoint):
            return True
        is_new = host not in self._named
        self._named.add(host)
        return is_new

    def _trust(self) -> None:
        """The peer has proven that it is there: join as for a relay of our own."""
        self._is_proven = True
        for session in tuple(self._sessions.values()):
            session.insist()

    def _join(self, point: RelayPoint) -> None:
        if point.session in self._sessions:
            return
        if len(self._sessions) >= self._config.max_joined:
            return
        try:
            session = self._ways.paths.join(
                point.endpoint,
                point.session,
                self._on_change,
                may_insist=self._is_proven,
            )
        except NetworkError:
            # In as many sessions as we may be: this meeting has to do without.
            return
        self._sessions[point.session] = session
        self._note(point)

    def _note(self, point: RelayPoint) -> None:
        """Come back to this session when there is no path, later."""
        self._known.pop(point.session, None)
        self._known[point.session] = point
        if len(self._known) > self._config.max_joined:
            del self._known[next(iter(self._known))]

    def _on_change(self, session: RelaySession) -> None:
        if session.is_open:
            self._retry_s = self._config.first_retry_s
        self._wake.set()


def _nothing(_: Endpoint) -> None:
    return None
