"""Our end of relay sessions: a way for the datagrams of a connection.

Owns joining a session at a relay, staying in it and leaving it, and the frames. Refuses
to know who serves as a relay, when one is needed, and what is in the datagrams but that
they are RUDP: the other end is nobody until its packets prove who it is.
"""

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import (
    NetworkError,
    RelayLimitReached,
    RemoteProtocolError,
    RequestRefused,
    RequestTimeout,
)
from opnode.core.ids import Contact
from opnode.drivers.network.network import Buffer, Received
from opnode.drivers.relay.service import RelayService
from opnode.drivers.rpc.exchange import Answer, Exchange, IncomingRequest, Indifferent
from opnode.drivers.rpc.rpc import Rpc
from opnode.drivers.socket_hub import RELAYED, SocketHub
from opnode.protocols.relay import FRAME_PREFIX, SESSION_LENGTH, RelayEnd
from opnode.protocols.rpc.messages import (
    FailureCode,
    JoinRelay,
    Noted,
    Refuse,
    RelayEnded,
    RelayJoined,
    Reply,
    unpack_contact_untrusted,
)

MEMBER_LENGTH: Final = 16
_TYPE = bytes([RELAYED])
_RUDP = b"\xe0"
_LIMITS = {
    RelayEnd.BYTES: "all the bytes that a session may have were used",
    RelayEnd.LIFETIME: "the time of the session is over",
    RelayEnd.SHARE: "these two hosts have used their share there",
}
_ENDS = {
    RelayEnd.LEFT: "the other end left",
    RelayEnd.ALONE: "the other end did not come, or is gone",
    RelayEnd.STOPPED: "the relay stopped",
}


class RelayState(enum.Enum):
    """Where our end of a session is.

    JOINING: the relay has not answered. WAITING: the other end is not there yet.
    OPEN: both are. ENDED: nothing passes any more, for good.
    """

    JOINING = "joining"
    WAITING = "waiting"
    OPEN = "open"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayPathConfig:
    """Times and limits of our end.

    Attributes:
        max_sessions: two a connection; each takes 1 kB.
        first_again_s: while the other end is awaited, we join again after so long, then
            twice as long, in case the frame that tells of it is lost.
        keep_alive_s: while open; below the 30 s binding of the strictest NATs.
        tries: joins in a row that may stay unanswered before the relay counts as dead;
            while nothing else carries data, RUDP notices earlier.
        retry_s: between such.
    """

    max_sessions: int = 4096
    first_again_s: float = 0.5
    keep_alive_s: float = 25.0
    tries: int = 3
    retry_s: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayPathStatistics:
    """One session, for people."""

    relay: Endpoint
    session: bytes
    state: RelayState
    bytes_sent: int
    bytes_received: int
    reason: str


class RelaySession:
    """One session that we are a member of: a carrier of the hub.

    Attributes:
        relay: the relay's address.
        name: the session, 8 bytes; known to both ends and the relay.
        endpoint: under which what is above sends and hears.
        state: where our end is.
        terms: the limits, as the relay told them last.
        error: why it ended; a ``RelayLimitReached`` when the relay's limits did it.
        end: the same as the relay said it, None when it said nothing.
        alternates: other relays that it named when it refused us; nobody's word.
    """

    def __init__(
        self, desk: "RelayPaths", relay: Endpoint, name: bytes, *, may_insist: bool
    ) -> None:
        self.relay = relay
        self.name = name
        self.state = RelayState.JOINING
        self.terms: RelayJoined | None = None
        self.error: NetworkError | None = None
        self.end: RelayEnd | None = None
        self.alternates: tuple[Contact, ...] = ()
        self.on_change: Callable[[RelaySession], None] = _ignore
        self.due_at = math.inf
        self.bytes_sent = self.bytes_received = self.dropped = 0
        self._desk = desk
        self._member = desk.rpc.draw_secret()[:MEMBER_LENGTH]
        self._prefix = _TYPE + name
        self._again_s = desk.config.first_again_s
        self._unanswered = 0
        self._exchange: Exchange | None = None
        self._may_insist = may_insist
        self.endpoint = desk.hub.add_carrier(self)

    @property
    def is_open(self) -> bool:
        """Whether datagrams pass, as far as we know."""
        return self.state is RelayState.OPEN

    def statistics(self) -> RelayPathStatistics:
        """Read the counters."""
        return RelayPathStatistics(
            relay=self.relay,
            session=self.name,
            state=self.state,
            bytes_sent=self.bytes_sent,
            bytes_received=self.bytes_received,
            reason="" if self.error is None else str(self.error),
        )

    def leave(self) -> None:
        """Give the session up: the relay need not hold it for us any longer."""
        if self.state is RelayState.ENDED:
            return
        has_joined = self.terms is not None
        self._end(None)
        if has_joined:
            body = RelayEnded(self.name, int(RelayEnd.LEFT))
            self._desk.tell(self.relay, body)

    # --- the carrier ------------------------------------------------------------------

    def send(self, data: Buffer, destination: Endpoint, segment_size: int) -> bool:
        """See `Carrier.send`: each datagram in a frame of its own."""
        del destination
        if self.state is not RelayState.OPEN:
            self.dropped += 1
            return True
        size, prefix = len(data), self._prefix
        if not segment_size or size <= segment_size:
            framed = b"".join((prefix, data))
            step = 0
        else:
            view = memoryview(data)
            parts: list[Buffer] = []
            for start in range(0, size, segment_size):
                parts.append(prefix)
                parts.append(view[start : start + segment_size])
            framed = b"".join(parts)
            step = segment_size + FRAME_PREFIX
        if not self._desk.hub.send(framed, self.relay, step):
            return False
        self.bytes_sent += len(framed)
        return True

    def receive_untrusted(self, received: Received) -> None:
        """Take a run of frames that name this session."""
        buffer, step, source, ecn = received
        if source != self.relay or self.state is RelayState.ENDED:
            self.dropped += 1
            return
        self.bytes_received += len(buffer)
        # The relay sends nothing, not even an empty frame, before both are there.
        self._open()
        if len(buffer) <= FRAME_PREFIX:
            return
        inner = [
            buffer[start + FRAME_PREFIX : start + step]
            for start in range(0, len(buffer), step)
        ]
        # Another end might send us RPC or STUN under a name that is no address.
        packets = [packet for packet in inner if packet[:1] == _RUDP]
        self.dropped += len(inner) - len(packets)
        if packets:
            run = memoryview(b"".join(packets))
            size = min(step - FRAME_PREFIX, len(run))
            self._desk.hub.deliver_run_untrusted(
                Received(run, size, self.endpoint, ecn)
            )

    # --- joining ----------------------------------------------------------------------

    def join(self) -> None:
        """Join, or say again that we are here; the answer comes to us as a listener."""
        self.due_at = math.inf
        body = JoinRelay(self.name, self._member)
        # An address that only a peer named may be anybody's: it hears of us twice, and
        # once while the peer has proven nothing, whose offer may be a replay.
        is_known = self._desk.rpc.last_heard(self.relay) is not None
        is_single = not (is_known or self._may_insist)
        try:
            self._exchange = self._desk.rpc.start(
                self.relay, body, self, is_patient=is_known, is_single=is_single
            )
        except RequestTimeout as error:
            self.failed(error)

    def insist(self) -> None:
        """Whoever named the relay has proven to be there: ask once more."""
        if self._may_insist:
            return
        self._may_insist = True
        is_unknown = self._desk.rpc.last_heard(self.relay) is None
        if self._exchange is not None and is_unknown:
            # The first answer may be on its way still; then this is said for nothing.
            self._desk.rpc.cancel(self._exchange)
            self.join()

    def answered(self, answer: Answer) -> None:
        """The relay let us in."""
        self._exchange = None
        body = answer.body
        if not isinstance(body, RelayJoined):
            self._end(RequestRefused(FailureCode.NOT_SERVED, "no answer to a join"))
            return
        self.terms = body
        self._unanswered = 0
        if body.is_complete:
            self._open()
        elif self.state is RelayState.OPEN:
            # The relay forgot us, as after a restart: the other end will join again.
            self.state = RelayState.WAITING
            self._again_s = self._desk.config.first_again_s
        elif self.state is RelayState.JOINING:
            self.state = RelayState.WAITING
        config = self._desk.config
        if self.state is RelayState.WAITING:
            self._wake_in(self._again_s)
            self._again_s = min(2 * self._again_s, config.keep_alive_s)
        else:
            self._wake_in(config.keep_alive_s)

    def slow(self) -> None:
        """The request is repeated by itself."""

    def failed(self, error: NetworkError) -> None:
        """The relay is silent or does not want us."""
        self._exchange = None
        config = self._desk.config
        self._unanswered += 1
        is_silent = isinstance(error, RequestTimeout)
        if is_silent and self.terms is not None and self._unanswered < config.tries:
            self._wake_in(config.retry_s)
            return
        if isinstance(error, RequestRefused):
            self.alternates = _contacts_untrusted(error.alternates)
        self._end(error)

    def ended_untrusted(self, reason: int) -> None:
        """The relay says that the session is over."""
        try:
            end = RelayEnd(reason)
        except ValueError:
            end = RelayEnd.STOPPED
        self.end = end
        if end in _LIMITS:
            self._end(RelayLimitReached(self.relay, _LIMITS[end]))
        else:
            self._end(NetworkError(f"relay {self.relay}: {_ENDS[end]}"))

    def _open(self) -> None:
        if self.state in (RelayState.JOINING, RelayState.WAITING):
            self.state = RelayState.OPEN
            if self._exchange is None:
                self._wake_in(self._desk.config.keep_alive_s)
            self.on_change(self)

    def _end(self, error: NetworkError | None) -> None:
        if self.state is RelayState.ENDED:
            return
        self.state = RelayState.ENDED
        self.error = error
        self.due_at = math.inf
        if self._exchange is not None:
            self._desk.rpc.cancel(self._exchange)
            self._exchange = None
        self._desk.forget(self)
        if error is not None:
            self.on_change(self)

    def _wake_in(self, seconds: float) -> None:
        self.due_at = trio.current_time() + seconds
        self._desk.bring_forward(self.due_at)


class RelayPaths:
    """All sessions that this node is a member of."""

    def __init__(
        self,
        rpc: Rpc,
        hub: SocketHub,
        service: RelayService | None = None,
        config: RelayPathConfig | None = None,
    ) -> None:
        """Take the hub's frames; those of others go on to our own ``service``."""
        self.rpc = rpc
        self.hub = hub
        self.config = config or RelayPathConfig()
        self._service = service
        self._sessions: dict[bytes, RelaySession] = {}
        self._timer: trio.CancelScope | None = None
        rpc.serve(RelayEnded, self._serve_ended)
        hub.relay_handler = self._receive_untrusted

    def __len__(self) -> int:
        return len(self._sessions)

    def draw_name(self) -> bytes:
        """A name for a new session that nobody can guess."""
        return self.rpc.draw_secret()[:SESSION_LENGTH]

    def join(
        self,
        relay: Endpoint,
        name: bytes,
        on_change: Callable[[RelaySession], None],
        *,
        may_insist: bool = True,
    ) -> RelaySession:
        """Become a member of a session; returns at once, `on_change` hears of it.

        Without `may_insist` a relay that never answered us hears of us once only, until
        `RelaySession.insist`.

        Raises:
            NetworkError: we are a member of as many as we may be, or of this one.
        """
        if len(self._sessions) >= self.config.max_sessions:
            raise NetworkError(f"in {len(self._sessions)} relay sessions, the limit")
        if name in self._sessions:
            raise NetworkError("a member of this relay session already")
        session = self._sessions[name] = RelaySession(
            self, relay, name, may_insist=may_insist
        )
        session.on_change = on_change
        session.join()
        return session

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Stay in the sessions, until cancelled."""
        task_status.started()
        while True:
            due_at = min((s.due_at for s in self._sessions.values()), default=math.inf)
            with trio.CancelScope(deadline=due_at) as self._timer:
                await trio.sleep_forever()
            now = trio.current_time()
            for session in tuple(self._sessions.values()):
                if session.due_at <= now:
                    session.join()

    def leave_all(self) -> None:
        """Give up all sessions, as when the node stops."""
        for session in tuple(self._sessions.values()):
            session.leave()

    def statistics(self) -> tuple[RelayPathStatistics, ...]:
        """Each session."""
        return tuple(session.statistics() for session in self._sessions.values())

    # What sessions ask of their desk.

    def tell(self, relay: Endpoint, body: RelayEnded) -> None:
        """Send word to a relay; nobody waits for the answer."""
        try:
            self.rpc.start(relay, body, Indifferent())
        except RequestTimeout:
            # Too many requests under way: the relay finds out by itself.
            return

    def forget(self, session: RelaySession) -> None:
        """The session is over."""
        self._sessions.pop(session.name, None)
        self.hub.remove_carrier(session.endpoint)

    def bring_forward(self, due_at: float) -> None:
        """Wake up no later than this."""
        if self._timer is not None and due_at < self._timer.deadline:
            self._timer.deadline = due_at

    def _receive_untrusted(self, received: Received) -> None:
        session = self._sessions.get(bytes(received.buffer[1:FRAME_PREFIX]))
        if session is not None:
            session.receive_untrusted(received)
        elif self._service is not None:
            self._service.forward_untrusted(received)

    def _serve_ended(self, request: IncomingRequest) -> Reply:
        body = request.body
        assert isinstance(body, RelayEnded)
        session = self._sessions.get(body.session)
        if session is not None and session.relay == request.source:
            # Whoever knows the session and sits at the relay's address is the relay, or
            # reads along before it and could drop all that passes anyway.
            session.ended_untrusted(body.reason)
            return Noted()
        if self._service is not None:
            return self._service.serve_ended(request)
        raise Refuse(FailureCode.NOT_SERVED, "no such session")


def _contacts_untrusted(packed: tuple[bytes, ...]) -> tuple[Contact, ...]:
    contacts = []
    for data in packed:
        try:
            contacts.append(unpack_contact_untrusted(data))
        except RemoteProtocolError:
            continue
    return tuple(contacts)


def _ignore(_: RelaySession) -> None:
    return
