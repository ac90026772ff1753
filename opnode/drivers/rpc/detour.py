"""Requests that others send for us while no UDP of ours gets through.

Owns which requests go that way, by which gateway, and how the answer is unpacked.
Refuses to know what a gateway is reached by and when UDP is given up.
"""

from typing import TYPE_CHECKING, Final

from opnode.core.addresses import Endpoint
from opnode.core.errors import RemoteProtocolError
from opnode.core.ids import Contact, NodeId
from opnode.drivers.rpc.exchange import Answer
from opnode.protocols.rpc.datagrams import (
    ReplyDatagram,
    decode_reply_body_untrusted,
    encode_body,
    flags_meaning,
)
from opnode.protocols.rpc.messages import (
    Delegate,
    Failure,
    FailureCode,
    FindNode,
    FindServices,
    FindValue,
    Forward,
    Forwarded,
    Introduce,
    Ping,
    Request,
    Signal,
    Store,
    pack_endpoint,
)

if TYPE_CHECKING:
    from collections.abc import Callable

FORWARDED_REQUESTS: Final = frozenset(
    {Delegate, FindNode, FindServices, FindValue, Introduce, Ping, Signal, Store}
)
"""What a gateway sends for its clients: what asks, stores and calls. Not what makes the
asked node send to the asker later, which would be the gateway; nor a PING that is to
prove a key for an address, which another may not ask for."""


class Detour:
    """By whom we have others asked, as long as there is somebody.

    Attributes:
        gateways: whom we reach by WebSocket; empty while UDP works.
        on_slow: called when one of them is late with an answer.
    """

    def __init__(self) -> None:
        self.gateways: tuple[Endpoint, ...] = ()
        self.on_slow: Callable[[Endpoint], None] = _unheard
        self._turn = 0

    def reaches(self, endpoint: Endpoint) -> bool:
        """Whether what is no request gets to this address: frames of a relay."""
        return not self.gateways or endpoint in self.gateways

    def of(self, destination: Endpoint, body: Request) -> Endpoint | None:
        """The gateway that is to ask the destination; None to ask it ourselves."""
        gateways = self.gateways
        if not gateways or destination in gateways:
            return None
        if type(body) not in FORWARDED_REQUESTS or _proves(body):
            return None
        # In turn, so that one that is slow or lies is not the only one heard.
        self._turn += 1
        return gateways[self._turn % len(gateways)]


def wrap(destination: Endpoint, body: Request) -> Forward:
    """The request to a gateway to send this request."""
    return Forward(pack_endpoint(destination), encode_body(body))


def unwrap_untrusted(
    reply: ReplyDatagram, asked: Endpoint, rtt_s: float
) -> Answer | Failure:
    """The answer of who was asked for us, as the gateway tells it; or its refusal."""
    body = reply.body
    if type(body) is Failure:
        return body
    if not isinstance(body, Forwarded):
        return Failure(FailureCode.NOT_SERVED, "the gateway answered out of turn")
    try:
        inner = decode_reply_body_untrusted(body.reply)
    except RemoteProtocolError:
        return Failure(FailureCode.NOT_SERVED, "the gateway brought no reply")
    leaf, services = flags_meaning(body.flags)
    contact = Contact(NodeId(body.node_id), asked)
    return Answer(inner, contact, rtt_s, reply.observed, leaf, services)


def _unheard(_: Endpoint) -> None:
    return None


def _proves(body: Request) -> bool:
    return type(body) is Ping and bool(body.prove)
