"""The RPC datagrams: headers and bodies, bytes to values and back.

Owns the header of ``docs/protocols/rpc.md`` and how much of an answer a question pays
for. Refuses to know sockets, clocks, who may ask what, and whether a token is genuine.
"""

import struct
from typing import ClassVar, Final, NamedTuple

import msgspec

from opnode.core.addresses import Endpoint
from opnode.core.errors import RemoteProtocolError
from opnode.core.ids import NodeId
from opnode.core.text import printable
from opnode.protocols.rpc.messages import (
    CHECK_ROOM,
    DIAL_BACK_SIZE,
    DIAL_SIZE,
    MAX_CONTACTS,
    MAX_DATAGRAM,
    NO_SERVICE,
    TOKEN_LENGTH,
    Dial,
    DialBack,
    Failure,
    FindNode,
    FindValue,
    Forward,
    Introduce,
    Offer,
    Ping,
    Reply,
    Request,
    Service,
    pack_endpoint,
    unpack_endpoint_untrusted,
)

REQUEST_TYPE: Final = 0xC0
REPLY_TYPE: Final = 0xC1
FLAG_LEAF: Final = 0x01
FLAG_TOKEN: Final = 0x02

_HEADER: Final = struct.Struct("!B8s8s20sB8sH")
HEADER_LENGTH: Final = _HEADER.size
_NO_TOKEN: Final = bytes(TOKEN_LENGTH)
_SERVICE_BITS: Final = int(Service.RELAY | Service.WEBSOCKET)

_encode = msgspec.msgpack.Encoder().encode
_decode_request: Final = msgspec.msgpack.Decoder(Request).decode
_decode_reply: Final = msgspec.msgpack.Decoder(Reply).decode


class Sender(NamedTuple):
    """What every datagram of one node says about the node itself."""

    network: bytes
    node_id: NodeId
    leaf: bool
    services: Service = NO_SERVICE


class RequestDatagram(msgspec.Struct, frozen=True, gc=False):
    """A request as it arrived; nothing in it is proven."""

    transaction_id: bytes
    sender: NodeId
    leaf: bool
    token: bytes
    body: Request
    size: int
    services: Service = NO_SERVICE

    kind: ClassVar[int] = REQUEST_TYPE


class ReplyDatagram(msgspec.Struct, frozen=True, gc=False):
    """A reply as it arrived; nothing in it is proven."""

    transaction_id: bytes
    sender: NodeId
    leaf: bool
    token: bytes
    observed: Endpoint
    body: Reply
    services: Service = NO_SERVICE

    kind: ClassVar[int] = REPLY_TYPE


class OtherNetworkError(RemoteProtocolError):
    """The datagram is well formed and belongs to another network."""


def encode_request(
    sender: Sender,
    transaction_id: bytes,
    token: bytes,
    body: Request,
    minimum_size: int = 0,
) -> bytes:
    """One request datagram, zero-padded up to ``minimum_size`` bytes."""
    packed = _encode(body)
    flags = _flags(sender, token)
    data = (
        _HEADER.pack(
            REQUEST_TYPE,
            sender.network,
            transaction_id,
            sender.node_id,
            flags,
            token or _NO_TOKEN,
            len(packed),
        )
        + packed
    )
    return data if len(data) >= minimum_size else data.ljust(minimum_size, b"\0")


def transaction_id_of(datagram: bytes) -> bytes:
    """The transaction id of a datagram that was encoded here."""
    return bytes(_HEADER.unpack_from(datagram)[2])


def encode_reply(
    sender: Sender,
    transaction_id: bytes,
    token: bytes,
    observed: Endpoint,
    body: Reply,
) -> bytes:
    """One reply datagram; never padded."""
    packed = _encode(body)
    address = pack_endpoint(observed)
    flags = _flags(sender, token)
    return b"".join(
        (
            _HEADER.pack(
                REPLY_TYPE,
                sender.network,
                transaction_id,
                sender.node_id,
                flags,
                token or _NO_TOKEN,
                len(packed),
            ),
            bytes((len(address),)),
            address,
            packed,
        )
    )


def reply_overhead(observed: Endpoint) -> int:
    """Bytes of a reply datagram that are not its body."""
    return HEADER_LENGTH + 1 + len(pack_endpoint(observed))


def body_size(body: Request | Reply) -> int:
    """Bytes of the encoded body."""
    return len(_encode(body))


def encode_body(body: Request | Reply) -> bytes:
    """A body alone, as it stands in FORWARD and FORWARDED."""
    return _encode(body)


def decode_request_body_untrusted(data: bytes) -> Request:
    """The body in a FORWARD.

    Raises:
        RemoteProtocolError: it does not parse.
    """
    try:
        body: Request = _decode_request(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"forwarded request: {error}") from error
    return body


def decode_reply_body_untrusted(data: bytes) -> Reply:
    """The body in a FORWARDED.

    Raises:
        RemoteProtocolError: it does not parse.
    """
    try:
        return _printable(_decode_reply(data))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"forwarded reply: {error}") from error


def decode_request_untrusted(data: bytes, network: bytes) -> RequestDatagram:
    """Parse a request.

    Raises:
        OtherNetworkError: the network id is not ``network``; the rest is unread.
        RemoteProtocolError: anything else is wrong; the text names it.
    """
    kind, found, transaction_id, node_id, flags, token, length = _header(data)
    if kind != REQUEST_TYPE:
        raise RemoteProtocolError(f"first byte: found {kind:#x}, expected 0xc0")
    if found != network:
        raise OtherNetworkError(f"network: found {found.hex()}")
    end = HEADER_LENGTH + length
    if end > len(data):
        raise RemoteProtocolError(f"body: found {len(data)} bytes, expected {end}")
    try:
        body = _decode_request(data[HEADER_LENGTH:end])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"request body: {error}") from error
    return RequestDatagram(
        transaction_id,
        NodeId(node_id),
        bool(flags & FLAG_LEAF),
        token if flags & FLAG_TOKEN else b"",
        body,
        len(data),
        _services(flags),
    )


def decode_reply_untrusted(data: bytes, network: bytes) -> ReplyDatagram:
    """Parse a reply.

    Raises:
        RemoteProtocolError: something is wrong; the text names it.
    """
    kind, found, transaction_id, node_id, flags, token, length = _header(data)
    if kind != REPLY_TYPE:
        raise RemoteProtocolError(f"first byte: found {kind:#x}, expected 0xc1")
    if found != network:
        raise OtherNetworkError(f"network: found {found.hex()}")
    body_at = HEADER_LENGTH + 1 + (data[HEADER_LENGTH] if data[HEADER_LENGTH:] else 0)
    if body_at + length != len(data):
        raise RemoteProtocolError(
            f"reply: found {len(data)} bytes, expected {body_at + length}"
        )
    try:
        body = _decode_reply(data[body_at:])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"reply body: {error}") from error
    body = _printable(body)
    return ReplyDatagram(
        transaction_id,
        NodeId(node_id),
        bool(flags & FLAG_LEAF),
        token if flags & FLAG_TOKEN else b"",
        unpack_endpoint_untrusted(data[HEADER_LENGTH + 1 : body_at]),
        body,
        _services(flags),
    )


def _printable(body: Reply) -> Reply:
    """Make the one text of a refusal fit for logs and screens."""
    if type(body) is Failure:
        return Failure(body.code, printable(body.detail), body.alternates)
    return body


def flags_meaning(flags: int) -> tuple[bool, Service]:
    """Whether the header's flags say leaf, and which services they name."""
    return bool(flags & FLAG_LEAF), _services(flags)


def flags_of(*, leaf: bool, services: Service) -> int:
    """The header's flags without those of a token."""
    return (FLAG_LEAF if leaf else 0) | int(services)


def _flags(sender: Sender, token: bytes) -> int:
    flags = (FLAG_LEAF if sender.leaf else 0) | (FLAG_TOKEN if token else 0)
    return flags | sender.services if sender.services else flags


def _services(flags: int) -> Service:
    # An IntFlag costs 0.5 µs to make, and most nodes offer nothing.
    return Service(flags & _SERVICE_BITS) if flags & _SERVICE_BITS else NO_SERVICE


def _header(data: bytes) -> tuple[int, bytes, bytes, bytes, int, bytes, int]:
    if len(data) < HEADER_LENGTH:
        raise RemoteProtocolError(
            f"datagram: found {len(data)} bytes, expected at least {HEADER_LENGTH}"
        )
    return _HEADER.unpack_from(data)


def largest_reply(body: Request, destination: Endpoint) -> int:
    """Bytes of the largest reply to ``body``; what an unknown asker pads to.

    For FIND_NODE with room for the PINGs that verify the asker; for DIAL_BACK and DIAL
    with room for what they make the asked node send to others.

    A reply to a request without a valid token is never larger than the request, so
    that the size of the question decides how much of an answer fits.
    """
    wide = ":" in destination.host
    overhead = HEADER_LENGTH + 1 + (18 if wide else 6)
    match body:
        case Ping(prove=nonce):
            return overhead + (102 if nonce else 6)
        case FindNode():
            return overhead + 8 + MAX_CONTACTS * (40 if wide else 28) + CHECK_ROOM
        case FindValue() | Introduce() | Offer() | Forward():
            return MAX_DATAGRAM
        case DialBack():
            return DIAL_BACK_SIZE
        case Dial():
            return DIAL_SIZE
        case _:
            return overhead + 8
