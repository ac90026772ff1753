"""The RPC datagrams: every message's fields, and bytes to values and back.

Owns the wire format of ``docs/protocols/rpc.md`` and its size limits. Refuses to
know sockets, clocks, who may ask what, and whether a token or a record is genuine.
"""

import enum
import functools
import struct
from typing import Annotated, ClassVar, Final, NamedTuple

import msgspec

from opnode.core.addresses import Endpoint, pack, unpack_untrusted
from opnode.core.crypto import sha256
from opnode.core.errors import OpnodeError, RemoteProtocolError
from opnode.core.ids import Contact, NodeId
from opnode.core.records import MAX_RECORD_SIZE
from opnode.core.text import printable

MAX_DATAGRAM: Final = 1212
"""The largest record in a reply: 1200 bytes over IPv4, whose addresses are shorter.
Below the 1232 that IPv6's smallest MTU leaves, so nothing is ever fragmented."""
MAX_SEALED: Final = 1100
"""A sealed introduction and every header around it stay within one datagram."""
CHECK_ROOM: Final = 2 * 73
"""Two PINGs (one sent again), by which the asked node verifies the asker's address.
A request that is to make its sender known has room for them besides its reply."""
MAX_CONTACTS: Final = 20
"""One bucket's worth (k of the Kademlia paper) is all a lookup step can use."""
MAX_RECORDS: Final = 32
"""Slots of one bag that can be read: a peer file, sixteen presences, then others."""
MAX_DETAIL: Final = 80
"""Characters of a failure's explanation: one line of a log."""

TOKEN_LENGTH: Final = 8
TRANSACTION_ID_LENGTH: Final = 8
NETWORK_ID_LENGTH: Final = 8
HANDLE_LENGTH: Final = 16

REQUEST_TYPE: Final = 0xC0
REPLY_TYPE: Final = 0xC1
FLAG_LEAF: Final = 0x01
FLAG_TOKEN: Final = 0x02

_HEADER: Final = struct.Struct("!B8s8s20sB8sH")
HEADER_LENGTH: Final = _HEADER.size
_NO_TOKEN: Final = bytes(TOKEN_LENGTH)

_Bytes16 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
_Bytes20 = Annotated[bytes, msgspec.Meta(min_length=20, max_length=20)]
_Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Bytes64 = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
_UpTo18 = Annotated[bytes, msgspec.Meta(max_length=18)]
_UpTo32 = Annotated[bytes, msgspec.Meta(max_length=32)]
_UpTo64 = Annotated[bytes, msgspec.Meta(max_length=64)]
_Sealed = Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_SEALED)]
_Record = Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_RECORD_SIZE)]
_Seconds = Annotated[int, msgspec.Meta(ge=0, le=86_400)]
_WallSeconds = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_PackedContact = Annotated[bytes, msgspec.Meta(min_length=26, max_length=38)]
_Contacts = Annotated[tuple[_PackedContact, ...], msgspec.Meta(max_length=MAX_CONTACTS)]
_Records = Annotated[tuple[_Record, ...], msgspec.Meta(max_length=MAX_RECORDS)]


def network_id_of(name: str) -> bytes:
    """The 8 bytes that keep networks apart, from the network's name."""
    return sha256(b"opnode ", name.encode(), b" network")[:NETWORK_ID_LENGTH]


MAIN_NETWORK: Final = network_id_of("main")


class FailureCode(enum.IntEnum):
    """Why a request was refused. 1 to 6 are ``core.errors.RefusalCode``."""

    OTHER_NETWORK = 32
    NOT_SERVED = 33
    TOKEN_NEEDED = 34
    OTHER_ADDRESS = 35
    BAD_SIGNATURE = 40
    STALE_RECORD = 41
    EQUIVOCATING_RECORD = 42
    EXPIRED_RECORD = 43
    MALFORMED_RECORD = 44
    BAG_FULL = 45
    STORE_FULL = 46


class _Request(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False
):
    """Base of the request bodies: how they stand on the wire."""


class _Reply(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False
):
    """Base of the reply bodies: how they stand on the wire."""


class Ping(_Request, frozen=True, tag=1):
    """Are you there? With a nonce of 1 to 32 bytes: prove which key you hold.

    ``asked`` is then the packed address that the asker sends this to.
    """

    prove: _UpTo32 = b""
    asked: _UpTo18 = b""


class FindNode(_Request, frozen=True, tag=2):
    """Which contacts do you know nearest to ``target``?"""

    target: _Bytes20


class FindValue(_Request, frozen=True, tag=3):
    """Which records do you hold under ``key``, from slot ``offset`` on?"""

    key: _Bytes20
    offset: Annotated[int, msgspec.Meta(ge=0, le=MAX_RECORDS)] = 0


class Store(_Request, frozen=True, tag=4):
    """Hold this signed record. Needs a valid token."""

    record: _Record


class Register(_Request, frozen=True, tag=5):
    """Pass introductions for ``handle`` to the address this came from.

    ``handle`` is ``handle_of(public_key)`` and ``signature`` is the location key's,
    over ``registration_statement``: nobody can take over another's handle.
    """

    handle: _Bytes16
    lifetime_s: _Seconds
    issued_at: _WallSeconds
    public_key: _Bytes32
    signature: _Bytes64


class Introduce(_Request, frozen=True, tag=6):
    """Pass this sealed offer to the holder of ``handle`` and bring its answer."""

    handle: _Bytes16
    lifetime_s: _Seconds
    sealed: _Sealed


class Offer(_Request, frozen=True, tag=7):
    """An introducer hands a sealed offer to the location that registered."""

    handle: _Bytes16
    sealed: _Sealed


class Pong(_Reply, frozen=True, tag=1):
    """I am here; when proof was asked, with key and signature (``proofs``)."""

    node_public_key: _UpTo32 = b""
    signature: _UpTo64 = b""


class Nodes(_Reply, frozen=True, tag=2):
    """The nearest contacts known, nearest first, as ``pack_contact`` makes them."""

    contacts: _Contacts


class Values(_Reply, frozen=True, tag=3):
    """Records from the asked slot on, how many the bag holds, nearer contacts."""

    records: _Records
    total: Annotated[int, msgspec.Meta(ge=0, le=MAX_RECORDS)]
    contacts: _Contacts


class Stored(_Reply, frozen=True, tag=4):
    """The record was verified and is held."""


class Registered(_Reply, frozen=True, tag=5):
    """Introductions will be passed for this many seconds."""

    lifetime_s: _Seconds


class Introduced(_Reply, frozen=True, tag=6):
    """The sealed answer that the target gave."""

    sealed: _Sealed


class Answered(_Reply, frozen=True, tag=7):
    """The target's sealed answer, on its way to the introducer."""

    sealed: _Sealed


class Failure(_Reply, frozen=True, tag=0):
    """The request was understood and refused."""

    code: Annotated[int, msgspec.Meta(ge=0, le=255)]
    detail: Annotated[str, msgspec.Meta(max_length=MAX_DETAIL)]


Request = Ping | FindNode | FindValue | Store | Register | Introduce | Offer
Reply = Pong | Nodes | Values | Stored | Registered | Introduced | Answered | Failure

_encode = msgspec.msgpack.Encoder().encode
_decode_request: Final = msgspec.msgpack.Decoder(Request).decode
_decode_reply: Final = msgspec.msgpack.Decoder(Reply).decode


class Refuse(OpnodeError):  # noqa: N818 - reads as the verdict that it is
    """A request handler's way to answer ``Failure(code, detail)``."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail[:MAX_DETAIL]


class Sender(NamedTuple):
    """What every datagram of one node says about the node itself."""

    network: bytes
    node_id: NodeId
    leaf: bool


class RequestDatagram(msgspec.Struct, frozen=True, gc=False):
    """A request as it arrived; nothing in it is proven."""

    transaction_id: bytes
    sender: NodeId
    leaf: bool
    token: bytes
    body: Request
    size: int

    kind: ClassVar[int] = REQUEST_TYPE


class ReplyDatagram(msgspec.Struct, frozen=True, gc=False):
    """A reply as it arrived; nothing in it is proven."""

    transaction_id: bytes
    sender: NodeId
    leaf: bool
    token: bytes
    observed: Endpoint
    body: Reply

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
    flags = (FLAG_LEAF if sender.leaf else 0) | (FLAG_TOKEN if token else 0)
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
    flags = (FLAG_LEAF if sender.leaf else 0) | (FLAG_TOKEN if token else 0)
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
    if isinstance(body, Failure):
        # The one text on the wire. It ends in logs and on screens.
        body = Failure(body.code, printable(body.detail))
    return ReplyDatagram(
        transaction_id,
        NodeId(node_id),
        bool(flags & FLAG_LEAF),
        token if flags & FLAG_TOKEN else b"",
        unpack_endpoint_untrusted(data[HEADER_LENGTH + 1 : body_at]),
        body,
    )


def _header(data: bytes) -> tuple[int, bytes, bytes, bytes, int, bytes, int]:
    if len(data) < HEADER_LENGTH:
        raise RemoteProtocolError(
            f"datagram: found {len(data)} bytes, expected at least {HEADER_LENGTH}"
        )
    return _HEADER.unpack_from(data)


# Addresses repeat in nearly every datagram: a lookup step reads 20 contacts, which
# costs 60 µs with inet_ntop and 6 µs from the cache. Both caches are bounded.
@functools.lru_cache(maxsize=4096)
def pack_endpoint(endpoint: Endpoint) -> bytes:
    """The endpoint's 6 or 18 bytes."""
    return pack(endpoint)


@functools.lru_cache(maxsize=4096)
def unpack_endpoint_untrusted(data: bytes) -> Endpoint:
    """An endpoint from its 6 or 18 bytes; RemoteProtocolError otherwise."""
    return unpack_untrusted(data)


@functools.lru_cache(maxsize=4096)
def pack_contact(contact: Contact) -> bytes:
    """Node id (20 bytes), then the endpoint (6 or 18 bytes)."""
    return contact.node_id + pack(contact.endpoint)


@functools.lru_cache(maxsize=4096)
def unpack_contact_untrusted(data: bytes) -> Contact:
    """A contact from ``pack_contact``'s bytes; RemoteProtocolError otherwise."""
    return Contact(NodeId(data[:20]), unpack_endpoint_untrusted(data[20:]))


def handle_of(location_public: bytes) -> bytes:
    """The 16-byte handle under which a location registers with introducers."""
    return sha256(b"opnode introduction handle", location_public)[:HANDLE_LENGTH]


def registration_statement(
    network: bytes, introducer: NodeId, observed: Endpoint, register: Register
) -> bytes:
    """What a location key signs to register with one introducer from one address.

    Args:
        network: the network id.
        introducer: node id of the node asked, so that no other can replay it.
        observed: the registrant's address as the introducer sees it.
        register: the request; its signature field is not read.
    """
    return b"".join(
        (
            b"opnode register\x00",
            network,
            introducer,
            pack_endpoint(observed).rjust(18, b"\0"),
            register.handle,
            register.lifetime_s.to_bytes(4, "big"),
            register.issued_at.to_bytes(8, "big"),
        )
    )


def largest_reply(body: Request, destination: Endpoint) -> int:
    """Bytes of the largest reply to ``body``; what an unknown asker pads to.

    For FIND_NODE with room for the PINGs that verify the asker.

    A reply to a request without a valid token is never larger than the request, so
    that the size of the question decides how much of an answer fits.
    """
    wide = len(pack_endpoint(destination)) != 6  # noqa: PLR2004 - IPv4 and its port
    overhead = HEADER_LENGTH + 1 + (18 if wide else 6)
    match body:
        case Ping(prove=nonce):
            return overhead + (102 if nonce else 6)
        case FindNode():
            return overhead + 8 + MAX_CONTACTS * (40 if wide else 28) + CHECK_ROOM
        case FindValue() | Introduce() | Offer():
            return MAX_DATAGRAM
        case _:
            return overhead + 8
