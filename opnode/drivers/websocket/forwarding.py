"""FORWARD: requests that a gateway sends for clients who have no UDP.

Owns which requests are sent, to whom, and how many are under way. Refuses to know by
which carrier the client came, and what the requests say.
"""

from collections import Counter
from dataclasses import dataclass

import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import (
    NetworkError,
    RefusalCode,
    RemoteProtocolError,
    RequestRefused,
)
from opnode.core.ids import NodeId
from opnode.drivers.rpc.detour import FORWARDED_REQUESTS
from opnode.drivers.rpc.exchange import IncomingRequest
from opnode.drivers.rpc.rpc import Rpc
from opnode.protocols.rpc.datagrams import (
    decode_request_body_untrusted,
    encode_body,
    flags_of,
)
from opnode.protocols.rpc.messages import (
    Failure,
    FailureCode,
    Forward,
    Forwarded,
    Ping,
    Refuse,
    Reply,
    Request,
    unpack_endpoint_untrusted,
)

_NOBODY = NodeId(bytes(20))


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardingConfig:
    """Limits.

    Attributes:
        max_pending: under way at once, for all clients; each costs a task of 3 kB.
        max_of_client: of one client: a lookup has eight in flight.
        answer_s: an introduction takes as long as its target does; by then the client
            has given up.
    """

    max_pending: int = 512
    max_of_client: int = 32
    answer_s: float = 6.0


class Forwarding:
    """Sends requests of WebSocket clients and brings the answers."""

    def __init__(self, rpc: Rpc, config: ForwardingConfig | None = None) -> None:
        self._rpc = rpc
        self._config = config or ForwardingConfig()
        self._of_client: Counter[Endpoint] = Counter()
        self._nursery: trio.Nursery | None = None
        self.forwarded = 0
        rpc.serve(Forward, self._serve)

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Host the requests under way until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def _serve(self, request: IncomingRequest) -> Reply | None:
        body = request.body
        assert isinstance(body, Forward)
        if request.carried_from is None:
            # Whoever has UDP asks for itself: we hide nobody's address.
            raise Refuse(FailureCode.NOT_SERVED, "only who comes by WebSocket")
        if not request.verified:
            raise Refuse(FailureCode.TOKEN_NEEDED, "")
        try:
            destination = unpack_endpoint_untrusted(body.address)
            inner = decode_request_body_untrusted(body.request)
        except RemoteProtocolError as error:
            raise Refuse(RefusalCode.MALFORMED, str(error)) from error
        if type(inner) not in FORWARDED_REQUESTS or _proves(inner):
            name = type(inner).__name__
            raise Refuse(FailureCode.NOT_SERVED, f"{name} is not forwarded")
        if not self._rpc.may_be_sent_to(destination):
            raise Refuse(RefusalCode.DECLINED, "not an address of the Internet")
        client = request.source
        pending, config = self._of_client, self._config
        is_full = pending.total() >= config.max_pending
        is_full = is_full or pending[client] >= config.max_of_client
        if self._nursery is None or is_full or not self._rpc.has_room_for_another():
            raise Refuse(RefusalCode.BUSY, "too much to forward")
        # Counted here, not in the task: a burst arrives before any task runs.
        pending[client] += 1
        self._nursery.start_soon(self._forward, request, destination, inner)
        return None

    async def _forward(
        self, request: IncomingRequest, destination: Endpoint, inner: Request
    ) -> None:
        client = request.source
        reply: Reply = Failure(int(RefusalCode.UNKNOWN_TARGET), "no answer")
        try:
            with trio.move_on_after(self._config.answer_s):
                reply = await self._ask(destination, inner)
        except RequestRefused as refusal:
            inner_reply = Failure(refusal.code, refusal.detail, refusal.alternates)
            reply = Forwarded(_NOBODY, 0, encode_body(inner_reply))
        except NetworkError:
            pass
        finally:
            self._of_client[client] -= 1
            if not self._of_client[client]:
                del self._of_client[client]
        self.forwarded += 1
        self._rpc.reply(request, reply)

    async def _ask(self, destination: Endpoint, inner: Request) -> Forwarded:
        rpc = self._rpc
        if type(inner) is not Ping and not rpc.token_for(destination):
            # A small PING finds out whether anybody is there who takes larger ones.
            await rpc.request(destination, Ping(), is_for_another=True)
        answer = await rpc.request(destination, inner, is_for_another=True)
        flags = flags_of(leaf=answer.leaf, services=answer.services)
        return Forwarded(answer.contact.node_id, flags, encode_body(answer.body))


def _proves(request: Request) -> bool:
    return type(request) is Ping and bool(request.prove)
