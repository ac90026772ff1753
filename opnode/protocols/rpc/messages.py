"""The bodies of the RPC: every message's fields and their bounds.

Owns the messages of ``docs/protocols/rpc.md`` and their size limits. Refuses to know
headers, sockets, clocks, who may ask what, and whether a record is genuine.
"""

import enum
import functools
from typing import Annotated, Final

import msgspec

from opnode.core.addresses import Endpoint, pack, unpack_untrusted
from opnode.core.crypto import sha256
from opnode.core.errors import OpnodeError
from opnode.core.ids import Contact, NodeId
from opnode.core.records import MAX_RECORD_SIZE, MAX_SEQ

MAX_DATAGRAM: Final = 1212
"""The largest record in a reply: 1200 bytes over IPv4, whose addresses are shorter.
Below the 1232 that IPv6's smallest MTU leaves, so nothing is ever fragmented."""
MAX_CARRIED: Final = 1400
"""The largest reply to whoever came by WebSocket, whose messages take 1500 bytes: an
answer of somebody else fits with what is written around it."""
MAX_SEALED: Final = 1100
"""A sealed introduction and every header around it stay within one datagram."""
CHECK_ROOM: Final = 2 * (73 + 48)
"""Two PINGs (one sent again) with their IPv6 and UDP headers, by which the asked node
verifies the asker's address. A request that is to make its sender known has room for
them besides its reply."""
DIAL_SIZE: Final = 2 * (68 + 48) + 80
"""DIAL pays for two DIALLED (one sent again) with headers, and for its own answer."""
DIAL_BACK_SIZE: Final = 2 * (DIAL_SIZE + 48) + 80
"""DIAL_BACK pays for two DIAL with headers, and for its own answer."""
MAX_CONTACTS: Final = 20
"""One bucket's worth (k of the Kademlia paper) is all a lookup step can use."""
MAX_RECORDS: Final = 32
"""Slots of one bag that can be read: a peer file, sixteen presences, then others."""
MAX_ALTERNATES: Final = 3
"""Others that a busy node names: as many as a leaf has introducers."""
MAX_SERVERS: Final = 8
"""Nodes that offer a service, in one reply: a few may be dead, one is needed."""
MAX_URL: Final = 100
"""Characters of a gateway's address: eight of them fit one datagram."""
MAX_DETAIL: Final = 80
"""Characters of a failure's explanation: one line of a log."""

NO_RECORD: Final = -1
"""As the expected sequence number of a conditional put: the slot must be empty."""

TOKEN_LENGTH: Final = 8
TRANSACTION_ID_LENGTH: Final = 8
NETWORK_ID_LENGTH: Final = 8
HANDLE_LENGTH: Final = 16

_Bytes8 = Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
_Bytes16 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
_Bytes20 = Annotated[bytes, msgspec.Meta(min_length=20, max_length=20)]
_Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Bytes64 = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
_Expected = Annotated[int, msgspec.Meta(ge=NO_RECORD, le=MAX_SEQ)] | None
_UpTo18 = Annotated[bytes, msgspec.Meta(max_length=18)]
_UpTo20 = Annotated[bytes, msgspec.Meta(max_length=20)]
_UpTo32 = Annotated[bytes, msgspec.Meta(max_length=32)]
_UpTo64 = Annotated[bytes, msgspec.Meta(max_length=64)]
_Sealed = Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_SEALED)]
_Record = Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_RECORD_SIZE)]
_Body = Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_DATAGRAM)]
_Seconds = Annotated[int, msgspec.Meta(ge=0, le=86_400)]
_WallSeconds = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_PackedContact = Annotated[bytes, msgspec.Meta(min_length=26, max_length=38)]
_Contacts = Annotated[tuple[_PackedContact, ...], msgspec.Meta(max_length=MAX_CONTACTS)]
_Alternates = Annotated[
    tuple[_PackedContact, ...], msgspec.Meta(max_length=MAX_ALTERNATES)
]
_Servers = Annotated[tuple[_PackedContact, ...], msgspec.Meta(max_length=MAX_SERVERS)]
_Url = Annotated[str, msgspec.Meta(max_length=MAX_URL)]
_Urls = Annotated[tuple[_Url, ...], msgspec.Meta(max_length=MAX_SERVERS)]
_Records = Annotated[tuple[_Record, ...], msgspec.Meta(max_length=MAX_RECORDS)]
_ByteCount = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


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
    OTHER_SEQ = 47


class Service(enum.IntFlag):
    """What a node does for others beside the DHT; bits of the header's flags."""

    RELAY = 0x04
    WEBSOCKET = 0x08


NO_SERVICE: Final = Service(0)


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
    """Which records do you hold under ``key``, from slot ``offset`` on?

    ``near`` is the id whose neighbours are to be named, 20 bytes; the key if empty.
    """

    key: _Bytes20
    offset: Annotated[int, msgspec.Meta(ge=0, le=MAX_RECORDS)] = 0
    near: _UpTo20 = b""


class Store(_Request, frozen=True, tag=4):
    """Hold this signed record. Needs a valid token.

    ``near`` is an id whose neighbours are to be named, 20 bytes; none if empty.
    ``expected_seq`` makes the put conditional (BEP 44 "cas"): the slot must hold this
    sequence number, or nothing if it is ``NO_RECORD``.
    """

    record: _Record
    near: _UpTo20 = b""
    expected_seq: _Expected = None


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


class Watch(_Request, frozen=True, tag=8):
    """Send me what changes under ``key`` for so long. Needs a valid token."""

    key: _Bytes20
    lifetime_s: _Seconds


class Changed(_Request, frozen=True, tag=9):
    """A holder sends a new record to whoever watches its key."""

    record: _Record


class DialBack(_Request, frozen=True, tag=10):
    """Have the address that this came from dialled by somebody I do not know.

    Needs a valid token, so nobody is dialled who did not ask.
    """

    nonce: _Bytes16


class Dial(_Request, frozen=True, tag=11):
    """Send ``Dialled(nonce)`` to this packed address. Needs a valid token."""

    address: _UpTo18
    nonce: _Bytes16


class Dialled(_Request, frozen=True, tag=12):
    """You can be reached by one whom you never sent anything."""

    nonce: _Bytes16


class Delegate(_Request, frozen=True, tag=13):
    """Run a lookup of ``key`` for me, as I keep few NAT bindings. Needs a token.

    For records: answered at the first that verifies. Else for the closest nodes.
    """

    key: _Bytes20
    for_records: bool


class Signal(_Request, frozen=True, tag=14):
    """For the holder of ``handle``: sealed words of a peer that it has the keys of.

    An introducer passes it on as it is, the holder takes it. One way: no answer comes
    back but that it was passed. Needs a valid token.
    """

    handle: _Bytes16
    sealed: _Sealed


class FindServices(_Request, frozen=True, tag=15):
    """Which nodes do you know that offer all of these services? Needs a token."""

    wanted: Annotated[int, msgspec.Meta(ge=1, le=255)]


class JoinRelay(_Request, frozen=True, tag=16):
    """Forward between us and whoever else joins this session. Needs a valid token.

    ``member`` is the joiner's secret: the same one from a new address moves our end.
    """

    session: _Bytes8
    member: _Bytes16


class RelayEnded(_Request, frozen=True, tag=17):
    """Nothing more is forwarded in this session, and why: a ``RelayEnd``."""

    session: _Bytes8
    reason: Annotated[int, msgspec.Meta(ge=0, le=255)]


class Forward(_Request, frozen=True, tag=18):
    """Ask this packed address for me: UDP does not get me there. Needs a token.

    Served to those alone who come by WebSocket. ``request`` is the encoded body.
    """

    address: _UpTo18
    request: _Body


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
    """The record was verified and is held; the neighbours that were asked for."""

    contacts: _Contacts = ()


class Registered(_Reply, frozen=True, tag=5):
    """Introductions will be passed for this many seconds."""

    lifetime_s: _Seconds


class Introduced(_Reply, frozen=True, tag=6):
    """The sealed answer that the target gave."""

    sealed: _Sealed


class Answered(_Reply, frozen=True, tag=7):
    """The target's sealed answer, on its way to the introducer."""

    sealed: _Sealed


class Watching(_Reply, frozen=True, tag=8):
    """Changes will be sent for this many seconds."""

    lifetime_s: _Seconds


class Noted(_Reply, frozen=True, tag=9):
    """Heard, and nothing to say: the answer to what only tells or starts something."""


class Found(_Reply, frozen=True, tag=13):
    """What the delegated lookup brought: records, and the closest nodes."""

    records: _Records
    contacts: _Contacts


class Servers(_Reply, frozen=True, tag=15):
    """Nodes that offer the services; where the asked node's own WebSocket is."""

    contacts: _Servers
    urls: _Urls = ()


class RelayJoined(_Reply, frozen=True, tag=16):
    """The session is open, with its limits; complete when the other end is there."""

    is_complete: bool
    lifetime_s: _Seconds
    bytes_per_s: _ByteCount
    max_bytes: _ByteCount


class Forwarded(_Reply, frozen=True, tag=18):
    """What the address answered: id and flags of its header, the encoded body."""

    node_id: _Bytes20
    flags: Annotated[int, msgspec.Meta(ge=0, le=255)]
    reply: _Body


class Failure(_Reply, frozen=True, tag=0):
    """The request was understood and refused; who else may be asked."""

    code: Annotated[int, msgspec.Meta(ge=0, le=255)]
    detail: Annotated[str, msgspec.Meta(max_length=MAX_DETAIL)]
    alternates: _Alternates = ()


Request = (
    Ping
    | FindNode
    | FindValue
    | Store
    | Register
    | Introduce
    | Offer
    | Watch
    | Changed
    | DialBack
    | Dial
    | Dialled
    | Delegate
    | Signal
    | FindServices
    | JoinRelay
    | RelayEnded
    | Forward
)
Reply = (
    Pong
    | Nodes
    | Values
    | Stored
    | Registered
    | Introduced
    | Answered
    | Watching
    | Noted
    | Found
    | Servers
    | RelayJoined
    | Forwarded
    | Failure
)


class Refuse(OpnodeError):  # noqa: N818 - reads as the verdict that it is
    """A request handler's way to answer ``Failure(code, detail, alternates)``."""

    def __init__(
        self, code: int, detail: str, alternates: tuple[Contact, ...] = ()
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail[:MAX_DETAIL]
        self.alternates = alternates[:MAX_ALTERNATES]

    def reply(self) -> Failure:
        """What travels."""
        packed = tuple(map(pack_contact, self.alternates))
        return Failure(int(self.code), self.detail, packed)


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
