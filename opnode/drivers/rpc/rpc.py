"""Requests and replies on the node's socket: tokens, timers, duplicates, limits.

Owns who is answered and how much, and when a request has failed. Refuses to know what
is asked, except for PING, which it answers itself.
"""

import math
import random
from typing import TYPE_CHECKING, Final

import trio

from opnode.core.addresses import Endpoint
from opnode.core.crypto import SigningKey, keyed_digest, sha256
from opnode.core.errors import (
    RemoteProtocolError,
    RequestRefused,
    RequestTimeout,
)
from opnode.core.ids import Contact, NodeId
from opnode.drivers.rpc.config import COUNTERS, RpcConfig, RpcStatistics
from opnode.drivers.rpc.exchange import (
    Answer,
    Exchange,
    IncomingRequest,
    Listener,
    RequestHandler,
    Waiter,
)
from opnode.drivers.socket_hub import SocketHub
from opnode.protocols.rpc.datagrams import (
    REPLY_TYPE,
    REQUEST_TYPE,
    OtherNetworkError,
    RequestDatagram,
    Sender,
    decode_reply_untrusted,
    decode_request_untrusted,
    encode_reply,
    encode_request,
    largest_reply,
    reply_overhead,
)
from opnode.protocols.rpc.messages import (
    CHECK_ROOM,
    MAX_DATAGRAM,
    MAX_DETAIL,
    NETWORK_ID_LENGTH,
    Failure,
    FailureCode,
    Introduce,
    Offer,
    Ping,
    Pong,
    Refuse,
    Register,
    Reply,
    Request,
    pack_endpoint,
)
from opnode.protocols.rpc.proofs import ProofTerms, Prover, proven_key_untrusted
from opnode.protocols.rpc.served import RequestKey, Seen, ServedRequests
from opnode.protocols.rpc.tokens import TokenIssuer
from opnode.protocols.rpc.transactions import Pending, Transactions

if TYPE_CHECKING:
    from collections.abc import Callable

# Requests that must not be acted on twice, or whose answer takes a while.
_ONCE: Final = (Register, Introduce, Offer)
# Their answer comes from a node or a person behind the one that is asked.
_RELAYED: Final = (Introduce, Offer)


class Rpc:
    """Asks other nodes and answers them."""

    def __init__(
        self,
        hub: SocketHub,
        *,
        node_id: NodeId,
        leaf: bool,
        signing_key: SigningKey | None,
        rng: random.Random,
        config: RpcConfig | None = None,
    ) -> None:
        """Take over the hub's RPC datagrams.

        Args:
            hub: the node's socket.
            node_id: the node's place in the DHT; may be set again later.
            leaf: ask others not to put us into their tables.
            signing_key: the node's key, for proofs; None answers none.
            rng: makes two runs of one key differ; never the only source of secrets.
            config: limits.
        """
        self._config = config or RpcConfig()
        assert len(self._config.network) == NETWORK_ID_LENGTH
        self._hub = hub
        self.prover = Prover(signing_key, hub.local, self._config.proofs_per_s)
        self._sender = Sender(self._config.network, node_id, leaf)
        seed = signing_key.seed if signing_key is not None else b""
        self._secret = sha256(b"opnode rpc", seed, rng.randbytes(32))
        self._drawn = 0
        self._tokens = TokenIssuer(self._draw_secret, self._config.tokens)
        self._transactions: Transactions[Exchange] = Transactions(
            self._draw_secret(), self._config.transactions
        )
        self._handlers: dict[type, RequestHandler] = {Ping: self._serve_ping}
        self._served = ServedRequests(self._config.served)
        self._timer: trio.CancelScope | None = None
        self._counts = dict.fromkeys(COUNTERS, 0)
        self.on_contact: Callable[[Contact, bool], None] | None = None
        self.on_failure: Callable[[Endpoint], None] | None = None
        self.on_observed: Callable[[Endpoint, Endpoint], None] | None = None
        hub.rpc_handler = self._receive_untrusted

    @property
    def node_id(self) -> NodeId:
        """Our place in the DHT."""
        return self._sender.node_id

    @node_id.setter
    def node_id(self, node_id: NodeId) -> None:
        self._sender = self._sender._replace(node_id=node_id)

    @property
    def leaf(self) -> bool:
        """Whether we ask not to be in others' tables."""
        return self._sender.leaf

    @leaf.setter
    def leaf(self, leaf: bool) -> None:
        self._sender = self._sender._replace(leaf=leaf)

    @property
    def network_id(self) -> bytes:
        """The 8 bytes of our network."""
        return self._config.network

    @property
    def local(self) -> Endpoint:
        """The address that the socket is bound to."""
        return self._hub.local

    def serve(self, request_type: type[Request], handler: RequestHandler) -> None:
        """Answer this type of request with ``handler``.

        The handler returns the reply, or None and calls ``reply`` within 30 s, or
        raises ``Refuse``. It runs in the reader and must be quick.
        """
        self._handlers[request_type] = handler

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Retransmit and give up in time, until cancelled."""
        task_status.started()
        while True:
            due_at = self._transactions.next_deadline()
            with trio.CancelScope() as self._timer:
                if due_at is not None:
                    self._timer.deadline = due_at
                await trio.sleep_forever()
            self._handle_deadline(trio.current_time())

    async def request(self, destination: Endpoint, body: Request) -> Answer:
        """Ask and wait for the reply.

        Raises:
            RequestTimeout: no answer after all retransmissions.
            RequestRefused: the answer is a failure; its code and detail.
        """
        waiter = Waiter()
        exchange = self.start(destination, body, waiter)
        try:
            await waiter.done.wait()
        finally:
            self.cancel(exchange)
        if waiter.error is not None:
            raise waiter.error
        assert waiter.answer is not None
        return waiter.answer

    async def prove(self, endpoint: Endpoint) -> bytes:
        """The key that the node at this address holds, proven by its signature.

        The node is not reported as a contact: the caller decides about the key first.

        Raises:
            RequestTimeout: no answer.
            RequestRefused: another network, an address that the node does not have, or
                a proof that does not verify.
        """
        nonce = self._draw_secret()
        answer = await self.request(endpoint, Ping(nonce, pack_endpoint(endpoint)))
        prover = answer.contact.node_id
        key = proven_key_untrusted(
            answer.body,
            ProofTerms(self.network_id, prover, endpoint, answer.observed, nonce),
        )
        if key is None:
            detail = f"{endpoint} does not prove its key"
            raise RequestRefused(FailureCode.BAD_SIGNATURE, detail)
        return key

    async def observed_by(self, endpoint: Endpoint) -> Endpoint:
        """Our address as that node sees it; asks it when it has not told lately.

        Raises:
            RequestTimeout, RequestRefused: it had to be asked and did not say.
        """
        observed = self._transactions.observed_by(endpoint)
        if observed is not None and self.token_for(endpoint):
            await trio.lowlevel.checkpoint()
            return observed
        return (await self.request(endpoint, Ping())).observed

    def token_for(self, endpoint: Endpoint) -> bytes:
        """The token that this node gave us and still accepts, or nothing."""
        return self._transactions.token_for(endpoint, trio.current_time(), is_sure=True)

    def start(
        self,
        destination: Endpoint,
        body: Request,
        listener: Listener,
        *,
        is_patient: bool = False,
    ) -> Exchange:
        """Ask without waiting: the listener hears what becomes of it.

        Where there is nobody else to ask, `is_patient` repeats it more than once.

        Raises:
            RequestTimeout: too many requests are under way.
        """
        exchange = Exchange(body, listener, is_patient=is_patient)
        self._send(destination, exchange)
        return exchange

    def cancel(self, exchange: Exchange) -> None:
        """Forget a request; its listener is not called any more."""
        if exchange.pending is not None:
            self._transactions.forget(exchange.pending)
            exchange.pending = None

    def reply(self, request: IncomingRequest, body: Reply) -> None:
        """Answer a request whose handler returned None."""
        key = (request.source, request.transaction_id)
        if self._served.settle(key):
            self._send_reply(request, body)

    def refuse(self, request: IncomingRequest, code: int, detail: str) -> None:
        """Answer a deferred request with a failure."""
        self.reply(request, Failure(int(code), detail[:MAX_DETAIL]))

    def statistics(self) -> RpcStatistics:
        """Read the counters."""
        return RpcStatistics(
            **self._counts,
            pending=len(self._transactions),
            deferred=len(self._served),
        )

    def _send(self, destination: Endpoint, exchange: Exchange) -> None:
        body = exchange.body
        now = trio.current_time()
        transactions = self._transactions
        pending = transactions.open(destination, exchange)
        exchange.pending = pending
        token = transactions.token_for(
            destination, now, is_sure=not isinstance(body, Ping)
        )
        # A PING may show an old token, so it has room for its answer anyway.
        is_short = token and not isinstance(body, Ping)
        size = 0 if is_short else largest_reply(body, destination)
        pending.datagram = encode_request(
            self._sender, pending.transaction_id, token, body, size
        )
        due_at = transactions.sent(
            pending,
            is_patient=exchange.is_patient or isinstance(body, _ONCE),
            is_relayed=isinstance(body, _RELAYED),
            now=now,
        )
        self._counts["requests_sent"] += 1
        if self._timer is not None and due_at < self._timer.deadline:
            self._timer.deadline = due_at
        # A full kernel buffer is a loss like any other: the timer repairs it.
        self._hub.send(pending.datagram, destination)

    def _handle_deadline(self, now: float) -> None:
        overdue = self._transactions.handle_deadline(now)
        for pending in overdue.resend:
            self._counts["retransmitted"] += 1
            self._hub.send(pending.datagram, pending.destination)
        for pending in overdue.turned_slow:
            if pending.context.pending is pending:
                pending.context.listener.slow()
        for pending in overdue.given_up:
            if pending.context.pending is pending:
                self._give_up(pending)

    def _give_up(self, pending: Pending[Exchange]) -> None:
        self._counts["timed_out"] += 1
        exchange = pending.context
        exchange.pending = None
        # Silence about a relayed request says little about the node that relays.
        is_own_silence = not isinstance(exchange.body, _RELAYED)
        if self.on_failure is not None and is_own_silence:
            self.on_failure(pending.destination)
        name = type(exchange.body).__name__
        exchange.listener.failed(
            RequestTimeout(f"{pending.destination} does not answer {name}")
        )

    def _receive_untrusted(self, data: bytes, source: Endpoint) -> None:
        kind = data[0] if data else -1
        try:
            if kind == REPLY_TYPE:
                self._take_reply_untrusted(data, source)
            elif kind == REQUEST_TYPE:
                request = decode_request_untrusted(data, self._config.network)
                self._serve_untrusted(request, source)
            else:
                self._counts["malformed"] += 1
        except OtherNetworkError:
            self._counts["other_network"] += 1
            if kind == REQUEST_TYPE:
                self._answer_stranger_untrusted(data, source)
        except RemoteProtocolError:
            self._counts["malformed"] += 1

    def _take_reply_untrusted(self, data: bytes, source: Endpoint) -> None:
        reply = decode_reply_untrusted(data, self._config.network)
        now = trio.current_time()
        pending = self._transactions.accept_untrusted(reply.transaction_id, source, now)
        if pending is None or pending.context.pending is not pending:
            self._counts["unexpected"] += 1
            return
        exchange = pending.context
        exchange.pending = None
        if self._timer is not None and not len(self._transactions):
            self._timer.deadline = math.inf
        body = reply.body
        if isinstance(body, Failure) and body.code == FailureCode.OTHER_NETWORK:
            # No node of ours, so no contact of ours either.
            exchange.listener.failed(RequestRefused(body.code, body.detail))
            return
        self._transactions.heard(source, reply.token, reply.observed, now)
        contact = Contact(reply.sender, source)
        # Whoever was asked for a proof is believed after it was found good, not before.
        is_proof = isinstance(exchange.body, Ping) and bool(exchange.body.prove)
        if self.on_contact is not None and not reply.leaf and not is_proof:
            self.on_contact(contact, True)
        if self.on_observed is not None and not is_proof:
            self.on_observed(source, reply.observed)
        if not isinstance(body, Failure):
            self._counts["answered"] += 1
            exchange.listener.answered(
                Answer(body, contact, now - pending.sent_at, reply.observed, reply.leaf)
            )
        elif body.code == FailureCode.TOKEN_NEEDED and not exchange.is_retried:
            # The refusal brought a fresh token; ask once more with it.
            exchange.is_retried = True
            self._send(source, exchange)
        else:
            self._counts["refused"] += 1
            exchange.listener.failed(RequestRefused(body.code, body.detail))

    def _serve_untrusted(self, datagram: RequestDatagram, source: Endpoint) -> None:
        body = datagram.body
        key = (source, datagram.transaction_id)
        if isinstance(body, _ONCE) and self._is_duplicate(key):
            return
        self._counts["served"] += 1
        now = trio.current_time()
        verified = self._tokens.is_valid_untrusted(datagram.token, source, now)
        # Whoever shows a token that ran out gets the whole answer refused with a new
        # one, not a part of the answer: see _send_reply.
        limit = MAX_DATAGRAM if datagram.token else datagram.size
        request = IncomingRequest(
            body,
            source,
            datagram.sender,
            datagram.leaf,
            verified,
            datagram.transaction_id,
            datagram.size,
            limit - reply_overhead(source),
        )
        handler = self._handlers.get(type(body), _serve_nothing)
        try:
            reply = handler(request)
        except Refuse as refusal:
            reply = Failure(int(refusal.code), refusal.detail)
        if reply is None:
            self._served.defer(key, now)
            return
        sent = self._send_reply(request, reply)
        # Whoever is told of an unproven sender pings it, which must not add up to
        # more bytes than it sent us.
        is_paid = verified or datagram.size - sent >= CHECK_ROOM
        if self.on_contact is not None and not datagram.leaf and is_paid:
            self.on_contact(request.contact, verified)

    def _serve_ping(self, request: IncomingRequest) -> Reply:
        body = request.body
        assert isinstance(body, Ping)
        if not body.prove:
            return Pong()
        now = trio.current_time()
        return self.prover.prove_untrusted(body, self._sender, request.source, now)

    def _answer_stranger_untrusted(self, data: bytes, source: Endpoint) -> None:
        """Tell a PING of another network so; nothing else gets an answer."""
        theirs = data[1 : 1 + NETWORK_ID_LENGTH]
        try:
            datagram = decode_request_untrusted(data, theirs)
        except RemoteProtocolError:
            return
        if not isinstance(datagram.body, Ping):
            return
        # In the stranger's own network id, or it could not read the answer.
        answer = encode_reply(
            self._sender._replace(network=theirs),
            datagram.transaction_id,
            b"",
            source,
            Failure(FailureCode.OTHER_NETWORK, "other"),
        )
        if len(answer) <= len(data):
            self._hub.send(answer, source)

    def _is_duplicate(self, key: RequestKey) -> bool:
        """Whether it was seen; answers again what was answered before."""
        seen = self._served.look(key)
        if seen is Seen.NEW:
            return False
        self._counts["duplicates"] += 1
        if seen is Seen.ANSWERED:
            self._hub.send(self._served.answer(key), key[0])
        return True

    def _send_reply(self, request: IncomingRequest, body: Reply) -> int:
        """Send the reply, or a refusal when it is too large; returns its bytes."""
        source = request.source
        limit = MAX_DATAGRAM if request.verified else request.size
        token = self._tokens.issue(source, trio.current_time())
        data = encode_reply(self._sender, request.transaction_id, token, source, body)
        if len(data) > limit:
            self._counts["too_large"] += 1
            data = encode_reply(
                self._sender,
                request.transaction_id,
                token,
                source,
                Failure(FailureCode.TOKEN_NEEDED, ""),
            )
            if len(data) > limit:
                return 0
        if isinstance(request.body, _ONCE):
            self._served.remember((source, request.transaction_id), data)
        self._hub.send(data, source)
        return len(data)

    def _draw_secret(self) -> bytes:
        self._drawn += 1
        return keyed_digest(self._secret, self._drawn.to_bytes(8, "big"), size=32)


def _serve_nothing(request: IncomingRequest) -> Reply:
    name = type(request.body).__name__
    raise Refuse(FailureCode.NOT_SERVED, f"{name} is not served here")
