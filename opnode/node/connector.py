"""From a peer's presence to a live connection, and from an offer to the same.

Owns the meeting of introductions, ICE and RUDP: who waits for whom, what is torn down
when a step fails, and that two peers who call each other end with one connection.
Refuses to know lookups, storage and what a connection is used for.
"""

import logging
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import (
    IntroductionRefused,
    PeerUnreachable,
    RefusalCode,
)
from opnode.core.ids import short
from opnode.core.peerfile import (
    Location,
    LocationCertificate,
    Presence,
)
from opnode.drivers.beginnings import ConnectTimings, EarlyData
from opnode.drivers.clock import WallClock
from opnode.drivers.connection_paths import PathKind
from opnode.drivers.connection_table import ConnectionTable
from opnode.drivers.connections import Connection
from opnode.drivers.ice.ice import IceAgent, IceSession
from opnode.drivers.introductions import Introductions
from opnode.node.acquaintances import Acquaintances
from opnode.node.network_watch import NetworkChange
from opnode.node.parcels import Parcels
from opnode.node.ways.attempts import AttemptLog
from opnode.node.ways.direct import CLOSE_S, Attempt, Cause
from opnode.node.ways.meeting import Beginnings, Meeting, MeetingLinks
from opnode.node.ways.offering import Calling, Offering
from opnode.node.ways.opening import Opening
from opnode.node.ways.signalling import Switchboard
from opnode.node.ways.ways import WayMaker, Words
from opnode.protocols.introductions.desk import IntroductionDesk
from opnode.protocols.introductions.events import IncomingWithdrawn
from opnode.protocols.introductions.messages import MAX_EARLY_DATA
from opnode.protocols.introductions.session import (
    IncomingIntroduction,
    IntroductionState,
)
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.connection import RudpConnection

logger = logging.getLogger(__name__)

EarlyAnswer = Callable[[LocationCertificate, bytes], bytes]
"""Takes a caller's early data and returns our own, see `Connector.on_early_data`."""

CODE_REPLACED: Final = 1
CODE_SHUTDOWN: Final = 3
SILENCE_PAUSE_S: Final = 10.0
"""Between questions to introducers whether they still reach us: it costs a
registration with each, and mappings are seldom lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorConfig:
    """Limits and deadlines.

    ``attempt_s``: one introduction to one location, from the offer to the path; as long
    as an introducer keeps an offer.
    ``confirm_s``: for so much longer whoever answered waits for the caller, whose path
    may come at the last moment, and whose first packets may be lost.
    ``check_rto_s``: first retransmission of an ICE check when no round trip has been
    measured; the introduction's own round trip replaces it.
    ``max_unaccepted``: connections nobody accepted yet; more callers hear "busy".
    ``max_unconfirmed``: answered offers whose caller has not been heard yet; at seven
    offers a second, more than an introducer passes for one source, each keeps its place
    for four seconds, several times what a path takes.
    ``transport``: our end of every connection.
    """

    attempt_s: float = 10.0
    confirm_s: float = 5.0
    check_rto_s: float = 0.1
    max_unaccepted: int = 64
    max_unconfirmed: int = 32
    transport: RudpConfig = field(default_factory=RudpConfig)


class Connector:
    """Makes connections, in both directions.

    Attributes:
        may_connect: our owner's word on who may.
        own_introducers: where we are registered now.
        way_makers: ways beside the direct one, such as relays; one of each is begun
            for every meeting.
        on_early_data: called with a caller's certificate and its early data, before
            there is any path; what it returns (at most 1024 bytes) goes into the
            answer. At once, and once for each offer while this process runs. Anybody
            may have replayed it after a restart: it must do nothing that matters then.
        on_silent: called when a path fell silent, so that others look, too, whether our
            NAT forgot us; not often.
        switchboard: signals between the ends of connections.
        attempt_log: the last searches for direct paths.
        foresee: where our NAT will show us to the next peer; mostly nothing, at once.
    """

    def __init__(  # noqa: PLR0913 - the one place where these six meet
        self,
        *,
        desk: IntroductionDesk,
        introductions: Introductions,
        ice: IceAgent,
        table: ConnectionTable,
        acquaintances: Acquaintances,
        wall_clock: WallClock,
        rng: random.Random,
        config: ConnectorConfig | None = None,
    ) -> None:
        self.may_connect: Callable[[LocationCertificate], bool] = _anybody
        self.own_introducers: Callable[[], tuple[Endpoint, ...]] = _nowhere
        self.way_makers: list[WayMaker] = []
        self.foresee: Callable[[], Awaitable[Sequence[Endpoint]]] = _nothing_foreseen
        self.switchboard = Switchboard(introductions)
        self.attempt_log = AttemptLog()
        self.on_early_data: EarlyAnswer = _say_nothing
        self._parcels = Parcels()
        self.on_silent: Callable[[], None] = _nobody_minds
        self._silent_at = -math.inf
        self._desk = desk
        self._introductions = introductions
        self._ice = ice
        self._table = table
        self._acquaintances = acquaintances
        self._wall_clock = wall_clock
        self._rng = rng
        self._config = config or ConnectorConfig()
        self._rudp_config = self._config.transport
        self._attempts: dict[bytes, Calling] = {}
        self._live: dict[bytes, Connection] = {}
        self._meetings: dict[bytes, Meeting] = {}
        self._unconfirmed: dict[bytes, Meeting] = {}
        limit = self._config.max_unaccepted
        self._accepted_in, self._accepted = trio.open_memory_channel[Connection](limit)
        self._nursery: trio.Nursery | None = None
        introductions.on_offer = self.answer_part
        ice.candidates.on_added = self.candidates_changed

    @property
    def ice(self) -> IceAgent:
        """The agent, for whoever learns our addresses."""
        return self._ice

    def adopt(self, location: Location) -> None:
        """Show a renewed certificate to peers from now on."""
        self._desk.adopt(location)

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Host the connections being made until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def connection_to(self, location: LocationCertificate) -> Connection | None:
        """The live connection to that location, if there is one."""
        connection = self._live.get(location.static_public)
        if connection is None or connection.close_reason is not None:
            return None
        return connection

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The newest rounds of checks, the newest last, and what became of each."""
        return self.attempt_log.attempts()

    def network_changed(self, change: NetworkChange) -> None:
        """Our addresses, or our NAT's, are others: look for every path anew."""
        is_seen = change is NetworkChange.SEEN_ELSEWHERE
        # That others see us elsewhere comes after each move, as news of the same.
        cause = Cause.MAPPING if is_seen else Cause.NETWORK
        for meeting in list(self._meetings.values()):
            meeting.network_changed(cause)

    def _on_silent(self) -> None:
        """A path fell silent: what is lost may be our NAT's mapping, not the peer."""
        now = trio.current_time()
        if now >= self._silent_at + SILENCE_PAUSE_S:
            self._silent_at = now
            self.on_silent()

    def candidates_changed(self) -> None:
        """We are seen, or forwarded to us, at other addresses than before."""
        candidates = self._ice.candidates.candidates()
        for meeting in list(self._meetings.values()):
            meeting.candidates_changed(candidates)

    def connections(self) -> list[Connection]:
        """All live connections."""
        return [c for c in self._live.values() if c.close_reason is None]

    async def connect(
        self,
        presences: Sequence[Presence],
        *,
        lookup_s: float,
        early_data: bytes = b"",
    ) -> Connection:
        """Connect to the first location that can be reached.

        ``early_data`` (at most 1024 bytes) travels in the offer; whether it did is told
        by the connection's ``early_data.is_sent``.

        Raises:
            IntroductionRefused: the last location refused, and why.
            PeerUnreachable: no location could be reached; tells each one's cause.
        """
        failures: list[PeerUnreachable] = []
        for presence in presences:
            live = self.connection_to(presence.certificate)
            if live is not None:
                await trio.lowlevel.checkpoint()
                return live
            try:
                return await self._connect_location(presence, lookup_s, early_data)
            except PeerUnreachable as failure:
                failures.append(failure)
        if len(failures) == 1:
            raise failures[0]
        causes = "; ".join(str(failure) for failure in failures)
        raise PeerUnreachable(causes or "the peer has no presence: it is offline")

    async def accept(self) -> Connection:
        """Wait for the next connection that a peer made to us."""
        return await self._accepted.receive()

    async def answer_part(self, part: bytes) -> bytes:
        """Answer a sealed offer, of which this may be a part only, with as much.

        Raises:
            IntroductionRefused: a named reason, for the caller.
        """
        return await self._parcels.answer(part, self.answer_offer)

    async def answer_offer(self, sealed: bytes) -> bytes:
        """Answer a sealed offer; the connection goes on in the background.

        Raises:
            IntroductionRefused: a named reason, for the caller.
        """
        await trio.lowlevel.checkpoint()
        now = trio.current_time()
        cached = self._desk.cached_answer(sealed, now)
        if cached is not None:
            return cached
        if self._nursery is None or self._queue_is_full():
            raise IntroductionRefused(RefusalCode.BUSY, "too many callers wait")
        try:
            incoming = self._desk.receive_offer_untrusted(
                sealed, now, wall_now=self._wall_clock()
            )
        finally:
            self._drain_desk()
        if incoming is None:
            raise IntroductionRefused(RefusalCode.BUSY, "the offer is being decided")
        if incoming.digest in self._meetings:
            incoming.decline(RefusalCode.EXPIRED)
            raise IntroductionRefused(RefusalCode.EXPIRED)
        if not self.may_connect(incoming.peer):
            incoming.decline()
            raise IntroductionRefused(RefusalCode.DECLINED)
        said = self._answer_early(incoming)
        opening = await self._new_opening(incoming)
        try:
            answer, established = incoming.answer(
                opening.ice, early_data=said, rendezvous=opening.rendezvous
            )
        except IntroductionRefused:
            # The caller withdrew it while we asked for our next port.
            await opening.aclose()
            raise
        begun = Beginnings(
            established=established,
            opening=opening,
            check_rto_s=self._config.check_rto_s,
            finish=partial(self._desk.finish, incoming),
        )
        meeting = await self._open_meeting(begun)
        meeting.connection.early_data = EarlyData(
            received=established.early_data, is_sent=bool(said)
        )
        self._nursery.start_soon(self._host, meeting)
        self._nursery.start_soon(self._follow_incoming, meeting)
        return answer

    async def _connect_location(
        self, presence: Presence, lookup_s: float, early_data: bytes
    ) -> Connection:
        remote = presence.certificate.static_public
        while (waiting := self._attempts.get(remote)) is not None:
            connection = await waiting.join(presence.introducers)
            if connection is not None:
                return connection
        attempt = self._attempts[remote] = Calling(early_data)
        try:
            with trio.move_on_after(self._config.attempt_s), attempt.scope:
                while not await self._try_own_offer(presence, attempt, lookup_s):
                    # The peer's own offer goes on: `_hand_over` ends this wait. But it
                    # may end at once, as when the peer hangs up: then it is our turn.
                    await attempt.freed.wait()
                    attempt.freed = trio.Event()
        except PeerUnreachable as failure:
            attempt.failure = failure
            raise
        finally:
            del self._attempts[remote]
            attempt.arrived.set()
        if attempt.connection is None:
            peer = short(presence.certificate.peer_id)
            seconds = self._config.attempt_s
            raise PeerUnreachable(f"no path to {peer} within {seconds:.0f} s")
        return attempt.connection

    async def _try_own_offer(
        self, presence: Presence, attempt: Calling, lookup_s: float
    ) -> bool:
        """Offer, and connect on the answer; false when the peer's own offer goes on."""
        started_at = trio.current_time()
        opening = await self._new_opening(None)
        meeting: Meeting | None = None
        try:
            meeting = await self._call(presence, opening, attempt)
        except IntroductionRefused as refusal:
            if refusal.code is not RefusalCode.GLARE:
                raise
            return False
        finally:
            if meeting is None:
                await opening.aclose()
        introduced_at = trio.current_time()
        assert self._nursery is not None
        self._nursery.start_soon(self._host, meeting)
        try:
            await meeting.wait_path()
        except BaseException:
            await _give_up(meeting)
            raise
        meeting.connection.timings = ConnectTimings(
            lookup_s=lookup_s,
            introduce_s=introduced_at - started_at,
            ice_s=trio.current_time() - introduced_at,
        )
        self._enter(meeting)
        attempt.connection = meeting.connection
        return True

    def _answer_early(self, incoming: IncomingIntroduction) -> bytes:
        """What our owner says to early data; its mistakes cost nothing else."""
        if not incoming.early_data:
            return b""
        try:
            said = self.on_early_data(incoming.peer, incoming.early_data)
        except Exception:
            logger.exception("early data was not answered")
            return b""
        if len(said) > MAX_EARLY_DATA:
            logger.error("%d bytes of early data were left out", len(said))
            return b""
        return said

    async def _new_opening(self, incoming: IncomingIntroduction | None) -> Opening:
        """Begin all ways to somebody: whom we call, or who made us an offer."""
        heard = None if incoming is None else _words_of(incoming)
        near = [c.endpoint.host for c in heard.candidates] if heard else ()
        session = await self._new_session(incoming is None, near)
        ways = [maker.new_way(heard) for maker in self.way_makers]
        return Opening(session, ways, self.own_introducers())

    async def _new_session(
        self,
        is_caller: bool,
        near: Sequence[str],
    ) -> IceSession:
        return self._ice.new_session(
            controlling=is_caller, predicted=await self.foresee(), near=near
        )

    async def _call(
        self, presence: Presence, opening: Opening, attempt: Calling
    ) -> Meeting:
        started_at = trio.current_time()
        certificate = presence.certificate
        self._finish_ended(certificate.static_public)
        outgoing = self._desk.offer(
            certificate,
            opening.ice,
            started_at,
            early_data=attempt.early_data,
            rendezvous=opening.rendezvous,
        )
        attempt.offering = Offering(
            self._introductions, outgoing, self._wall_clock, self._rng
        )
        attempt.has_offered = True
        at_once = self._acquaintances.endpoints_of(certificate.static_public)
        late: Sequence[Endpoint] = ()
        if opening.session.is_foretold:
            at_once, late = self._ice.candidates.split_by_link(at_once)
        try:
            introducers = [*presence.introducers, *attempt.introducers]
            established = await attempt.offering.run(introducers, at_once, late)
        except PeerUnreachable as failure:
            # The peer may have heard of our defeat before we did, and say "expired".
            if outgoing.state is IntroductionState.SUPERSEDED:
                raise IntroductionRefused(RefusalCode.GLARE) from failure
            raise
        finally:
            attempt.offering = None
            if outgoing.state is not IntroductionState.ESTABLISHED:
                self._desk.finish(outgoing)
            self._drain_desk()
        begun = Beginnings(
            established=established,
            opening=opening,
            check_rto_s=min(trio.current_time() - started_at, 0.5),
            finish=partial(self._desk.finish, outgoing),
        )
        meeting = await self._open_meeting(begun)
        meeting.connection.early_data = EarlyData(
            received=established.early_data, is_sent=bool(attempt.early_data)
        )
        return meeting

    def _finish_ended(self, remote_static: bytes) -> None:
        """A connection that just ended is no call of the peer's to wait for (I-5)."""
        for meeting in self._meetings.values():
            is_over = meeting.connection.close_reason is not None
            if meeting.remote_static == remote_static and is_over:
                meeting.finish()

    async def _open_meeting(self, begun: Beginnings) -> Meeting:
        """Key the transport and enter it into the table.

        Raises:
            PeerUnreachable: the table is full.
        """
        established = begun.established
        rudp = RudpConnection(
            initiator=established.initiator,
            keys=established.keys,
            config=self._rudp_config,
            rng=self._rng,
        )
        try:
            connection = self._table.open(rudp, established.peer)
        except PeerUnreachable:
            begun.finish()
            await begun.opening.aclose()
            raise
        links = MeetingLinks(
            switchboard=self.switchboard,
            new_session=self._new_session,
            own_introducers=self.own_introducers,
            note=partial(self.attempt_log.note, begun.established.peer.peer_id),
            on_silent=self._on_silent,
        )
        meeting = Meeting(begun, connection, links)
        self._meetings[meeting.offer_digest] = meeting
        return meeting

    async def _host(self, meeting: Meeting) -> None:
        """Run a meeting to its end, then forget it."""
        try:
            await meeting.run()
        finally:
            if self._live.get(meeting.remote_static) is meeting.connection:
                del self._live[meeting.remote_static]
                # It may have moved since it was made.
                self._remember(meeting.connection)
            self._meetings.pop(meeting.offer_digest, None)

    async def _follow_incoming(self, meeting: Meeting) -> None:
        """Wait for the caller of an offer that we answered.

        It counts once a packet under its keys is here: an offer alone may be a replay,
        or its caller may have given up meanwhile. Until then it can be displaced: who
        makes many offers pushes out the oldest, and keeps nobody else from calling.
        """
        unconfirmed = self._unconfirmed
        if len(unconfirmed) >= self._config.max_unconfirmed:
            unconfirmed[next(iter(unconfirmed))].scope.cancel()
        unconfirmed[meeting.offer_digest] = meeting
        try:
            with trio.fail_after(self._config.attempt_s + self._config.confirm_s):
                await meeting.wait_confirmed()
        except (PeerUnreachable, trio.TooSlowError) as failure:
            peer = short(meeting.connection.peer_id)
            logger.info("an offer of %s came to nothing: %s", peer, failure)
            meeting.scope.cancel()
            await meeting.ended.wait()
            self._free(meeting.remote_static)
        else:
            self._enter(meeting)
            self._hand_over(meeting)
        finally:
            del unconfirmed[meeting.offer_digest]

    def _free(self, remote_static: bytes) -> None:
        """Let whoever waits for a call from there make one."""
        attempt = self._attempts.get(remote_static)
        if attempt is not None:
            attempt.freed.set()

    def _hand_over(self, meeting: Meeting) -> None:
        """Give an incoming connection to whoever waits for one."""
        attempt = self._attempts.get(meeting.remote_static)
        if attempt is not None and attempt.connection is None:
            attempt.connection = meeting.connection
            attempt.scope.cancel()
            return
        try:
            self._accepted_in.send_nowait(meeting.connection)
        except trio.WouldBlock:
            meeting.connection.close(CODE_SHUTDOWN, "nobody accepts connections")

    def _enter(self, meeting: Meeting) -> None:
        """Make it the one connection to its location; the older one ends."""
        older = self._live.get(meeting.remote_static)
        self._live[meeting.remote_static] = meeting.connection
        self._remember(meeting.connection)
        if older is not None:
            older.close(CODE_REPLACED, "replaced by a newer connection")

    def _remember(self, connection: Connection) -> None:
        """Where to call this location when nobody can introduce us any more."""
        path = connection.path
        is_direct = path is not None and path.kind is PathKind.DIRECT
        endpoint = path.endpoint if path is not None and is_direct else None
        self._acquaintances.met(connection.certificate, endpoint)

    def _drain_desk(self) -> None:
        """Follow the desk: a call that its caller gave up carries nothing."""
        while (event := self._desk.next_event()) is not None:
            if isinstance(event, IncomingWithdrawn):
                withdrawn = self._meetings.get(event.offer_digest)
                if withdrawn is not None:
                    reason = "the caller gave up this call"
                    withdrawn.connection.close(CODE_REPLACED, reason)
                    withdrawn.scope.cancel()

    def _queue_is_full(self) -> bool:
        waiting = self._accepted.statistics().current_buffer_used
        return waiting >= self._config.max_unaccepted


async def _give_up(meeting: Meeting) -> None:
    """End a meeting and wait for its end; also when cancelled."""
    meeting.scope.cancel()
    with trio.move_on_after(2 * CLOSE_S, shield=True):
        await meeting.ended.wait()


def _words_of(offer: IncomingIntroduction) -> Words:
    return Words(candidates=offer.ice.candidates, rendezvous=offer.rendezvous)


def _nobody_minds() -> None:
    """Of a silent path."""


def _say_nothing(_: LocationCertificate, __: bytes) -> bytes:
    return b""


def _nowhere() -> tuple[Endpoint, ...]:
    return ()


def _anybody(_: LocationCertificate) -> bool:
    return True


async def _nothing_foreseen() -> Sequence[Endpoint]:
    return ()
