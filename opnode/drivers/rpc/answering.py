"""The answering half of the Rpc: others' requests and our replies to them.

Owns who is answered and how much, at most once where that matters. Refuses to know
what is asked, except for PING, which it answers itself.
"""

from typing import Final

import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import RefusalCode, RemoteProtocolError
from opnode.drivers.rpc.config import RpcConfig
from opnode.drivers.rpc.exchange import IncomingRequest, RequestHandler
from opnode.drivers.rpc.station import Secrets, Station
from opnode.protocols.rpc.datagrams import (
    RequestDatagram,
    decode_request_untrusted,
    encode_reply,
    reply_overhead,
)
from opnode.protocols.rpc.limits import RequestLimits
from opnode.protocols.rpc.messages import (
    CHECK_ROOM,
    MAX_CARRIED,
    MAX_DATAGRAM,
    NETWORK_ID_LENGTH,
    Changed,
    Delegate,
    DialBack,
    Failure,
    FailureCode,
    FindValue,
    Forward,
    Introduce,
    JoinRelay,
    Offer,
    Ping,
    Pong,
    Refuse,
    Register,
    Reply,
    Request,
    Signal,
    Store,
    Watch,
)
from opnode.protocols.rpc.proofs import Prover
from opnode.protocols.rpc.served import Seen, ServedRequests
from opnode.protocols.rpc.tokens import TokenIssuer

# Requests that must not be acted on twice, or whose answer takes a while.
_ONCE: Final = frozenset({Register, Introduce, Offer, Delegate, Signal, Forward})
# What many may want at once is rationed by its key as well.
_KEYED: Final = (FindValue, Watch)
# Work in units of a FIND_NODE: signatures, or messages to others, or a whole lookup.
_WORK: Final[dict[type, float]] = {
    Store: 3.0,
    Register: 3.0,
    Introduce: 3.0,
    Offer: 3.0,
    Changed: 3.0,
    DialBack: 3.0,
    Delegate: 30.0,
    Signal: 3.0,
    JoinRelay: 3.0,
    Forward: 3.0,
}


class Answerer:
    """Others' requests."""

    def __init__(
        self, station: Station, prover: Prover, secrets: Secrets, config: RpcConfig
    ) -> None:
        self._station = station
        self._prover = prover
        self._tokens = TokenIssuer(secrets.draw, config.tokens)
        self._limits = RequestLimits(config.limits)
        self._served = ServedRequests(config.served)
        self._handlers: dict[type, RequestHandler] = {Ping: self._serve_ping}

    def __len__(self) -> int:
        """Requests whose answer comes later."""
        return len(self._served)

    def serve(self, request_type: type[Request], handler: RequestHandler) -> None:
        """See `Rpc.serve`."""
        self._handlers[request_type] = handler

    def reply(self, request: IncomingRequest, body: Reply) -> None:
        """See `Rpc.reply`."""
        key = (request.source, request.transaction_id)
        if self._served.settle(key):
            self._send_reply(request, body, trio.current_time())

    def answer_untrusted(self, data: bytes, source: Endpoint) -> None:
        """Answer a request of our network.

        Raises:
            RemoteProtocolError: it does not parse, or is another network's.
        """
        station = self._station
        datagram = decode_request_untrusted(data, station.sender.network)
        body = datagram.body
        kind = type(body)
        tally = station.traffic.served[kind]
        tally.datagrams_in += 1
        tally.bytes_in += len(data)
        now = trio.current_time()
        request = self._incoming_untrusted(datagram, source, now)
        if not self._is_admitted(request, now):
            return
        if kind in _ONCE and self._is_duplicate(request):
            return
        station.counts["served"] += 1
        try:
            reply = self._handlers.get(kind, _serve_nothing)(request)
        except Refuse as refusal:
            reply = refusal.reply()
        if reply is None:
            self._served.defer((source, datagram.transaction_id), now)
            return
        sent = self._send_reply(request, reply, now)
        # Whoever is told of an unproven sender pings it, which must not add up to
        # more bytes than it sent us.
        is_paid = request.verified or datagram.size - sent >= CHECK_ROOM
        # Whoever came by a carrier is at no address that others could be told.
        is_heard = is_paid and request.carried_from is None
        if station.on_asked is not None and is_heard:
            station.on_asked(request)

    def answer_stranger_untrusted(self, data: bytes, source: Endpoint) -> None:
        """Tell a PING of another network so; nothing else gets an answer."""
        now = trio.current_time()
        seen_at = self._station.hub.shown(source)
        if not self._limits.admits(seen_at.host, verified=False, units=1.0, now=now):
            self._station.counts["limited"] += 1
            return
        theirs = data[1 : 1 + NETWORK_ID_LENGTH]
        try:
            datagram = decode_request_untrusted(data, theirs)
        except RemoteProtocolError:
            return
        if type(datagram.body) is not Ping:
            return
        # In the stranger's own network id, or it could not read the answer.
        answer = encode_reply(
            self._station.sender._replace(network=theirs),
            datagram.transaction_id,
            b"",
            seen_at,
            Failure(FailureCode.OTHER_NETWORK, "other"),
        )
        if len(answer) <= len(data):
            other = self._station.traffic.other
            other.datagrams_out += 1
            other.bytes_out += len(answer)
            self._station.hub.send(answer, source)

    def _incoming_untrusted(
        self, datagram: RequestDatagram, source: Endpoint, now: float
    ) -> IncomingRequest:
        token = datagram.token
        # Whoever shows a token that ran out gets the whole answer refused with a new
        # one, not a part of the answer: see _send_reply.
        seen_at = self._station.hub.shown(source)
        is_carried = seen_at is not source
        full = MAX_CARRIED if is_carried else MAX_DATAGRAM
        limit = full if token else datagram.size
        return IncomingRequest(
            datagram.body,
            source,
            datagram.sender,
            datagram.leaf,
            bool(token) and self._tokens.is_valid_untrusted(token, source, now),
            datagram.transaction_id,
            datagram.size,
            limit - reply_overhead(seen_at),
            seen_at if is_carried else None,
            datagram.services,
        )

    def _serve_ping(self, request: IncomingRequest) -> Reply:
        body = request.body
        assert isinstance(body, Ping)
        if not body.prove:
            return Pong()
        now = trio.current_time()
        return self._prover.prove_untrusted(
            body,
            self._station.sender,
            request.seen_at,
            now,
            verified=request.verified,
        )

    def _is_admitted(self, request: IncomingRequest, now: float) -> bool:
        """Whether it is worked on; counts it, and seldom says so, when it is not."""
        body = request.body
        limits = self._limits
        if limits.admits(
            request.host,
            verified=request.verified,
            units=_WORK.get(type(body), 1.0),
            now=now,
            key=body.key if isinstance(body, _KEYED) else None,
        ):
            return True
        self._station.counts["limited"] += 1
        if request.verified and limits.may_say_busy(now):
            # An asker that is told goes on at once; others wait for their timer.
            self._send_reply(request, Failure(RefusalCode.BUSY, ""), now)
        return False

    def _is_duplicate(self, request: IncomingRequest) -> bool:
        """Whether it was seen; answers again what was answered before."""
        key = (request.source, request.transaction_id)
        seen = self._served.look(key)
        if seen is Seen.NEW:
            return False
        self._station.counts["duplicates"] += 1
        if seen is Seen.ANSWERED:
            answer = self._served.answer(key)
            # The first may have been longer: a forger could repeat it with less.
            if request.verified or len(answer) <= request.size:
                self._emit(request, answer)
        return True

    def _send_reply(self, request: IncomingRequest, body: Reply, now: float) -> int:
        """Send the reply, or a refusal when it is too large; returns its bytes."""
        source = request.source
        sender = self._station.sender
        full = MAX_DATAGRAM if request.carried_from is None else MAX_CARRIED
        limit = full if request.verified else request.size
        token = self._tokens.issue(source, now)
        identity = request.transaction_id
        seen_at = request.seen_at
        data = encode_reply(sender, identity, token, seen_at, body)
        if len(data) > limit:
            self._station.counts["too_large"] += 1
            refusal = Failure(FailureCode.TOKEN_NEEDED, "")
            data = encode_reply(sender, identity, token, seen_at, refusal)
            if len(data) > limit:
                return 0
        if type(request.body) in _ONCE:
            self._served.remember((source, identity), data)
        self._emit(request, data)
        return len(data)

    def _emit(self, request: IncomingRequest, datagram: bytes) -> None:
        tally = self._station.traffic.served[type(request.body)]
        tally.datagrams_out += 1
        tally.bytes_out += len(datagram)
        if request.source in self._station.written_at:
            self._station.written_at[request.source] = trio.current_time()
        self._station.hub.send(datagram, request.source)


def _serve_nothing(request: IncomingRequest) -> Reply:
    name = type(request.body).__name__
    raise Refuse(FailureCode.NOT_SERVED, f"{name} is not served here")
