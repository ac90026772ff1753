"""Requests and replies on the node's socket: the two halves and what callers see.

Owns which datagram goes to which half, and the questions about an address that take a
request. Refuses to know how requests are timed and answered, and what is asked.
"""

import random
from collections.abc import Callable, Iterable

import trio

from opnode.core.addresses import Endpoint
from opnode.core.crypto import SigningKey, constant_time_equal
from opnode.core.errors import RemoteProtocolError, RequestRefused
from opnode.core.ids import Contact, NodeId
from opnode.drivers.rpc.answering import Answerer
from opnode.drivers.rpc.asking import Asker
from opnode.drivers.rpc.config import RpcConfig, RpcStatistics
from opnode.drivers.rpc.detour import Detour
from opnode.drivers.rpc.exchange import (
    Answer,
    Exchange,
    IncomingRequest,
    Listener,
    RequestHandler,
    Waiter,
)
from opnode.drivers.rpc.station import Secrets, Station
from opnode.drivers.socket_hub import SocketHub
from opnode.protocols.rpc.datagrams import (
    REPLY_TYPE,
    REQUEST_TYPE,
    OtherNetworkError,
    Sender,
    decode_reply_untrusted,
    encode_request,
    largest_reply,
    transaction_id_of,
)
from opnode.protocols.rpc.messages import (
    MAX_DETAIL,
    NETWORK_ID_LENGTH,
    TRANSACTION_ID_LENGTH,
    Failure,
    FailureCode,
    Ping,
    Reply,
    Request,
    Service,
    pack_endpoint,
)
from opnode.protocols.rpc.proofs import ProofTerms, Prover, proven_key_untrusted
from opnode.protocols.rpc.silence import Silence


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
        config = config or RpcConfig()
        assert len(config.network) == NETWORK_ID_LENGTH
        self.prover = Prover(signing_key, hub.local, config.proofs_per_s)
        self._secrets = Secrets(signing_key, rng.randbytes(32))
        self._station = Station.on(hub, Sender(config.network, node_id, leaf))
        self._answerer = Answerer(self._station, self.prover, self._secrets, config)
        self._asker = Asker(self._station, self._secrets.draw(), config)
        hub.rpc_handler = self._receive_untrusted

    @property
    def node_id(self) -> NodeId:
        """Our place in the DHT."""
        return self._station.sender.node_id

    @node_id.setter
    def node_id(self, node_id: NodeId) -> None:
        self._station.sender = self._station.sender._replace(node_id=node_id)

    @property
    def leaf(self) -> bool:
        """Whether we ask not to be in others' tables."""
        return self._station.sender.leaf

    @leaf.setter
    def leaf(self, leaf: bool) -> None:
        self._station.sender = self._station.sender._replace(leaf=leaf)

    @property
    def services(self) -> Service:
        """What every datagram of ours says that we do for others."""
        return self._station.sender.services

    @services.setter
    def services(self, services: Service) -> None:
        self._station.sender = self._station.sender._replace(services=services)

    @property
    def network_id(self) -> bytes:
        """The 8 bytes of our network."""
        return self._station.sender.network

    @property
    def local(self) -> Endpoint:
        """The address that the socket is bound to."""
        return self._station.hub.local

    @property
    def on_answered(self) -> Callable[[Answer], None] | None:
        """Hears who answered what we asked of our own accord, leaves too.

        Not who proves a key, nor who is told something on behalf of others.
        """
        return self._station.on_answered

    @on_answered.setter
    def on_answered(self, hear: Callable[[Answer], None] | None) -> None:
        self._station.on_answered = hear

    @property
    def on_offered(self) -> Callable[[Contact, Service], None] | None:
        """Hears which node answered us that does something for others, and what."""
        return self._station.on_offered

    @on_offered.setter
    def on_offered(self, hear: Callable[[Contact, Service], None] | None) -> None:
        self._station.on_offered = hear

    @property
    def on_asked(self) -> Callable[[IncomingRequest], None] | None:
        """Hears who asked us, leaves too, unless it would have to be pinged unpaid."""
        return self._station.on_asked

    @on_asked.setter
    def on_asked(self, hear: Callable[[IncomingRequest], None] | None) -> None:
        self._station.on_asked = hear

    @property
    def on_failure(self) -> Callable[[Endpoint], None] | None:
        """Hears at which address nobody answered."""
        return self._station.on_failure

    @on_failure.setter
    def on_failure(self, hear: Callable[[Endpoint], None] | None) -> None:
        self._station.on_failure = hear

    @property
    def on_observed(self) -> Callable[[Endpoint, Endpoint], None] | None:
        """Hears that the node at the first address sees us at the second."""
        return self._station.on_observed

    @on_observed.setter
    def on_observed(self, hear: Callable[[Endpoint, Endpoint], None] | None) -> None:
        self._station.on_observed = hear

    def serve(self, request_type: type[Request], handler: RequestHandler) -> None:
        """Answer this type of request with ``handler``.

        The handler returns the reply, or None and calls ``reply`` within 30 s, or
        raises ``Refuse``. It runs in the reader and must be quick.
        """
        self._answerer.serve(request_type, handler)

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Retransmit and give up in time, until cancelled."""
        task_status.started()
        await self._asker.run()

    async def request(
        self, destination: Endpoint, body: Request, *, is_for_another: bool = False
    ) -> Answer:
        """Ask and wait for the reply; ``is_for_another`` as for ``start``.

        Raises:
            RequestTimeout: no answer after all retransmissions.
            RequestRefused: the answer is a failure; its code and detail.
        """
        waiter = Waiter()
        exchange = self.start(destination, body, waiter, is_for_another=is_for_another)
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
        nonce = self._secrets.draw()
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
        observed = self._asker.observed_by(endpoint)
        if observed is not None and self.token_for(endpoint):
            await trio.lowlevel.checkpoint()
            return observed
        return (await self.request(endpoint, Ping())).observed

    @property
    def detour(self) -> Detour:
        """Who asks others for us while no UDP gets through."""
        return self._asker.detour

    @property
    def silence(self) -> Silence:
        """Whether anybody answers by UDP."""
        return self._asker.silence

    async def answers_by_udp(self, endpoint: Endpoint) -> bool:
        """Whether this node answers a PING by UDP, whatever carries the rest."""
        waiter = Waiter()
        exchange = Exchange(Ping(), waiter, is_by_socket=True)
        self._asker.start(endpoint, exchange)
        try:
            await waiter.done.wait()
        finally:
            self.cancel(exchange)
        return waiter.error is None

    def forget_peer(self, endpoint: Endpoint) -> None:
        """Forget what this node told of us, as when we reach it another way now."""
        self._asker.forget_peer(endpoint)

    def round_trip_to(self, endpoint: Endpoint) -> float | None:
        """Seconds to this address and back, smoothed; None if nothing was measured."""
        return self._asker.round_trip_to(endpoint)

    def watch_writes(self, endpoints: Iterable[Endpoint]) -> None:
        """Remember from now on when something is sent to these, and to no others."""
        before, now = self._station.written_at, trio.current_time()
        self._station.written_at = {e: before.get(e, now) for e in endpoints}

    def last_written(self, endpoint: Endpoint) -> float | None:
        """When something was sent last to an address that is watched."""
        return self._station.written_at.get(endpoint)

    def last_heard(self, endpoint: Endpoint) -> float | None:
        """When this address last answered us; None if it never did, or long ago."""
        return self._asker.last_heard(endpoint)

    def draw_secret(self) -> bytes:
        """32 bytes that nobody can guess, others at every call."""
        return self._secrets.draw()

    def unanswered(self, body: Request, destination: Endpoint) -> bytes:
        """A request to be sent from another socket, whose answer nobody waits for."""
        transaction_id = self._secrets.draw()[:TRANSACTION_ID_LENGTH]
        size = largest_reply(body, destination)
        return encode_request(self._station.sender, transaction_id, b"", body, size)

    def seen_by_untrusted(self, data: bytes, asked: bytes) -> Endpoint | None:
        """Where an answer to an `unanswered` request says that we are, if it is one."""
        try:
            reply = decode_reply_untrusted(data, self.network_id)
        except RemoteProtocolError:
            return None
        is_ours = constant_time_equal(reply.transaction_id, transaction_id_of(asked))
        return reply.observed if is_ours else None

    def token_for(self, endpoint: Endpoint) -> bytes:
        """The token that this node gave us and still accepts, or nothing."""
        return self._asker.token_for(endpoint)

    def start(
        self,
        destination: Endpoint,
        body: Request,
        listener: Listener,
        *,
        is_patient: bool = False,
        is_for_another: bool = False,
        is_single: bool = False,
    ) -> Exchange:
        """Ask without waiting: the listener hears what becomes of it.

        Where there is nobody else to ask, `is_patient` repeats it more than once; with
        `is_single` it is never repeated while nobody answers. With
        `is_for_another`, FIND_NODE and FIND_VALUE are not padded for whoever gave us no
        token, which costs a round trip more; nobody is a contact by answering; and it
        takes nothing from our own budget.

        Raises:
            RequestTimeout: too many requests are under way.
        """
        exchange = Exchange(
            body,
            listener,
            is_patient=is_patient,
            is_for_another=is_for_another,
            is_single=is_single,
        )
        self._asker.start(destination, exchange)
        return exchange

    def cancel(self, exchange: Exchange) -> None:
        """Forget a request; its listener is not called any more."""
        self._asker.cancel(exchange)

    def reply(self, request: IncomingRequest, body: Reply) -> None:
        """Answer a request whose handler returned None."""
        self._answerer.reply(request, body)

    def refuse(self, request: IncomingRequest, code: int, detail: str) -> None:
        """Answer a deferred request with a failure."""
        self.reply(request, Failure(int(code), detail[:MAX_DETAIL]))

    def has_room(self) -> bool:
        """Whether the budget has room for work that no person waits for."""
        return self._asker.budget.has_room(trio.current_time())

    def has_room_for_strangers(self) -> bool:
        """Whether the budget has room to ask back somebody who asked us."""
        return self._asker.budget.has_room_for_strangers(trio.current_time())

    def has_room_for_another(self) -> bool:
        """Whether there is room to ask what others want to know; its own budget."""
        return self._asker.lent.has_room(trio.current_time())

    async def wait_room(self) -> None:
        """Return when ``has_room``; people's requests go first and move it away."""
        await trio.lowlevel.checkpoint()
        while not self.has_room():  # noqa: ASYNC110 - room comes with time alone
            await trio.sleep_until(self._asker.budget.room_at())

    def may_be_sent_to(self, endpoint: Endpoint) -> bool:
        """Whether a stranger's word is enough to send something to this address.

        A node there that answered us has shown by itself that it wants to be asked.
        """
        surroundings = self._asker.surroundings
        if surroundings.may_be_sent_to(endpoint.host, trio.current_time()):
            return True
        return bool(self.token_for(endpoint))

    def is_spent(self) -> bool:
        """Whether the budget of new endpoints is used up, by people too."""
        return self._asker.budget.is_spent(trio.current_time())

    def statistics(self) -> RpcStatistics:
        """Read the counters."""
        return RpcStatistics(
            **self._station.counts,
            pending=len(self._asker),
            deferred=len(self._answerer),
            traffic=self._station.traffic.lines(),
            budget=self._asker.budget.view(trio.current_time()),
            lent=self._asker.lent.view(trio.current_time()),
        )

    def _receive_untrusted(self, data: bytes, source: Endpoint) -> None:
        kind = data[0] if data else -1
        try:
            if kind == REPLY_TYPE:
                self._asker.take_reply_untrusted(data, source)
                return
            if kind == REQUEST_TYPE:
                self._answerer.answer_untrusted(data, source)
                return
            self._station.counts["malformed"] += 1
        except OtherNetworkError:
            self._station.counts["other_network"] += 1
            if kind == REQUEST_TYPE:
                self._answerer.answer_stranger_untrusted(data, source)
        except RemoteProtocolError:
            self._station.counts["malformed"] += 1
        self._station.traffic.other.datagrams_in += 1
        self._station.traffic.other.bytes_in += len(data)
