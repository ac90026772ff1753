"""A relay: passes frames on between the two members of each session.

Owns the wire of a relay (docs/protocols/relay.md): who joins and leaves over RPC, and
frames that go out as they came in. Only nodes whose operator said so have one. Refuses
to know whom it may serve and how much, which is `opnode.protocols.relay`'s, and what is
inside the datagrams.
"""

import math
from collections.abc import Callable

import trio

from opnode.core.errors import RefusalCode, RequestTimeout
from opnode.core.ids import Contact
from opnode.drivers.network.network import Received
from opnode.drivers.rpc.exchange import IncomingRequest, Indifferent
from opnode.drivers.rpc.rpc import Rpc
from opnode.drivers.socket_hub import RELAYED, SocketHub
from opnode.protocols.relay import (
    FRAME_PREFIX,
    JoinRefusal,
    JoinRefused,
    Place,
    RelayConfig,
    RelaySessions,
    RelayStatistics,
)
from opnode.protocols.rpc.messages import (
    FailureCode,
    JoinRelay,
    Noted,
    Refuse,
    RelayEnded,
    RelayJoined,
    Reply,
    Service,
)

Alternates = Callable[[IncomingRequest], tuple[Contact, ...]]
"""Who else may be asked by whoever sent this request."""

_TYPE = bytes([RELAYED])


class RelayService:
    """The serving half of relaying.

    Attributes:
        alternates: other relays to name to whoever is refused, given the request.
    """

    def __init__(self, rpc: Rpc, hub: SocketHub, config: RelayConfig) -> None:
        """Serve JOIN_RELAY and say so in every datagram of the node."""
        self.alternates: Alternates = _nobody
        self._rpc = rpc
        self._hub = hub
        self._sessions = RelaySessions(config)
        self._timer: trio.CancelScope | None = None
        rpc.serve(JoinRelay, self._serve_join)
        rpc.serve(RelayEnded, self.serve_ended)
        rpc.services |= Service.RELAY
        hub.relay_handler = self.forward_untrusted

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """End sessions in time, until cancelled."""
        task_status.started()
        while True:
            due_at = self._sessions.next_deadline()
            deadline = math.inf if due_at is None else due_at
            with trio.CancelScope(deadline=deadline) as self._timer:
                await trio.sleep_forever()
            self._sessions.handle_deadline(trio.current_time())
            self._tell()

    def stop(self) -> None:
        """End all sessions and tell their members, as when the node stops."""
        self._sessions.stop(trio.current_time())
        self._tell()

    def statistics(self) -> RelayStatistics:
        """Read the counters."""
        return self._sessions.statistics()

    def forward_untrusted(self, received: Received) -> None:
        """Pass a run of frames on: one look-up and one send for up to 54 of them."""
        buffer, step, source, _ = received
        size = len(buffer)
        name = bytes(buffer[1:FRAME_PREFIX])
        now = trio.current_time()
        way = self._sessions.forward_untrusted(name, source, size, step, now)
        if way is not None:
            destination, allowed = way
            # Congestion marks end here: each half of the way has its own router's. A
            # full buffer of the kernel is a loss, as in any router.
            run = buffer if allowed == size else buffer[:allowed]
            self._hub.send(run, destination, step)
        if self._sessions.has_ended:
            self._tell()

    def serve_ended(self, request: IncomingRequest) -> Reply:
        """A member leaves. To others nothing is told but that it was heard."""
        body = request.body
        assert isinstance(body, RelayEnded)
        if not request.verified:
            raise Refuse(FailureCode.TOKEN_NEEDED, "")
        self._sessions.leave(body.session, request.source, trio.current_time())
        self._tell()
        return Noted()

    def _serve_join(self, request: IncomingRequest) -> Reply:
        body = request.body
        assert isinstance(body, JoinRelay)
        if not request.verified:
            raise Refuse(FailureCode.TOKEN_NEEDED, "")
        now = trio.current_time()
        name, place = body.session, Place(request.source, request.host)
        try:
            terms = self._sessions.join(name, body.member, place, now)
        except JoinRefused as refusal:
            self._tell()
            raise self._refusal(refusal, request) from refusal
        if terms.is_complete and terms.is_news:
            self._wake_other_end(request, name)
        self._bring_forward()
        return RelayJoined(
            terms.is_complete,
            int(terms.lifetime_s),
            int(terms.bytes_per_s),
            terms.bytes_left,
        )

    def _wake_other_end(self, request: IncomingRequest, name: bytes) -> None:
        """An empty frame tells the end that waits; it is shorter than what joined."""
        other = self._sessions.other_end(name, request.source)
        if other is not None:
            self._hub.send(_TYPE + name, other)

    def _refusal(self, refusal: JoinRefused, request: IncomingRequest) -> Refuse:
        if refusal.reason is JoinRefusal.TAKEN:
            return Refuse(RefusalCode.DECLINED, refusal.reason.value)
        others = self.alternates(request)
        return Refuse(RefusalCode.BUSY, refusal.reason.value, others)

    def _bring_forward(self) -> None:
        due_at = self._sessions.next_deadline()
        timer = self._timer
        if timer is not None and due_at is not None and due_at < timer.deadline:
            timer.deadline = due_at

    def _tell(self) -> None:
        while (ended := self._sessions.next_ended()) is not None:
            body = RelayEnded(ended.session, int(ended.reason))
            for member in ended.members:
                try:
                    self._rpc.start(member, body, Indifferent())
                except RequestTimeout:
                    # Too many requests under way: the member hears of it when it joins
                    # the next time.
                    continue


def _nobody(_: IncomingRequest) -> tuple[Contact, ...]:
    return ()
