"""Peer files, location certificates and presences: the payloads of peers' records.

Owns their meaning (docs/protocols/peer-file.md) and the binding of a record to its
storage key, so that a holder can refuse strangers under a peer's key by itself. It
knows nothing of where records are kept or how they travel. Only section A of a peer
file is public, and only it is here.
"""

import struct
from dataclasses import dataclass, replace
from typing import Annotated, TypeVar

import msgspec

from opnode.core.addresses import Endpoint, pack, unpack_untrusted
from opnode.core.crypto import (
    KEY_SIZE,
    SIGNATURE_SIZE,
    SigningKey,
    StaticKey,
    verify_again,
)
from opnode.core.errors import BadSignature, MalformedRecord, RemoteProtocolError
from opnode.core.ids import (
    COMMITMENT_SIZE,
    NO_RECOVERY,
    NODE_ID_SIZE,
    NodeId,
    PeerId,
    peer_id_of,
    peer_key,
    short,
)
from opnode.core.records import (
    CLOCK_TOLERANCE_S,
    MAX_LIFETIME_S,
    MAX_SEQ,
    RecordKind,
    SignedRecord,
    build_record,
    check_lifetime,
    parse_record_untrusted,
)

PEER_FILE_LIFETIME_S = MAX_LIFETIME_S
HANDLE_SIZE = 16
# Two carry an offer at once and two are in reserve; more would make presences long.
MAX_INTRODUCERS = 4
MAX_NAME_SIZE = 32
MAX_CAPABILITIES = 2**32 - 1

_PAYLOAD_VERSION = 1
_CERTIFICATE_VERSION = 1
_CERTIFICATE_DOMAIN = b"opnode location certificate v1\0"
_CERTIFICATE = struct.Struct("!B32s32s32s32sQQB")
MAX_CERTIFICATE_SIZE = _CERTIFICATE.size + MAX_NAME_SIZE + SIGNATURE_SIZE
_MAX_ENDPOINT_SIZE = 18

_Key = Annotated[bytes, msgspec.Meta(min_length=KEY_SIZE, max_length=KEY_SIZE)]
_Date = Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)]


@dataclass(frozen=True, slots=True)
class Identity:
    """The key pair of a person, group or thing, with its recovery commitment.

    Attributes:
        signing: The identity's Ed25519 key pair; a secret.
        commitment: 32 bytes that stand for a recovery policy; zeros: none.
    """

    signing: SigningKey
    commitment: bytes = NO_RECOVERY

    @property
    def peer_id(self) -> PeerId:
        """The id that others know this identity by."""
        return peer_id_of(self.signing.public, self.commitment)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocationCertificate:
    """The identity's word that a location is one of its devices.

    Attributes:
        identity_public: The identity's Ed25519 key, which signed this.
        commitment: The identity's recovery commitment.
        location_public: The location's Ed25519 key, which signs its presences.
        static_public: The location's X25519 key, which introductions are sealed to.
        created_at: Unix seconds.
        expires_at: Unix seconds.
        name: What its owner calls the device; at most 32 bytes of printable text.
        signature: By the identity over the bytes of all the fields above.
    """

    identity_public: bytes
    commitment: bytes
    location_public: bytes
    static_public: bytes
    created_at: int
    expires_at: int
    name: str
    signature: bytes

    @property
    def peer_id(self) -> PeerId:
        """The identity that certifies; believe it after ``verify``."""
        return peer_id_of(self.identity_public, self.commitment)

    def pack(self) -> bytes:
        """Return the exact bytes: the signed part and the signature."""
        return self._signed_part() + self.signature

    def verify(self, wall_now: float) -> None:
        """Check the dates and the identity's signature (peer-file §3).

        Raises:
            ExpiredRecord: Its time is over.
            MalformedRecord: It begins in the future or lasts beyond two years.
            BadSignature: The identity did not sign these bytes.
        """
        check_lifetime(self.expires_at, wall_now, "the location certificate")
        if self.created_at > wall_now + CLOCK_TOLERANCE_S:
            raise MalformedRecord("the location certificate begins in the future")
        signed = _CERTIFICATE_DOMAIN + self._signed_part()
        if not verify_again(self.identity_public, signed, self.signature):
            raise BadSignature(
                f"the certificate of location {short(self.location_public)} is not "
                f"signed by identity {short(self.identity_public)}"
            )

    def _signed_part(self) -> bytes:
        name = self.name.encode()
        fixed = _CERTIFICATE.pack(
            _CERTIFICATE_VERSION,
            self.identity_public,
            self.commitment,
            self.location_public,
            self.static_public,
            self.created_at,
            self.expires_at,
            len(name),
        )
        return fixed + name


@dataclass(frozen=True, slots=True)
class Location:
    """One device of an identity, with its own keys.

    Attributes:
        signing: Signs its presences; a secret.
        static: Introductions are sealed to it; a secret.
        certificate: What the identity says of both.
    """

    signing: SigningKey
    static: StaticKey
    certificate: LocationCertificate


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerFile:
    """Section A of a peer file, the public one.

    Attributes:
        public_key: The identity's 32-byte Ed25519 key.
        commitment: 32 bytes that stand for a recovery policy; zeros: none.
        created_at: Unix seconds.
        expires_at: Unix seconds; the record's own expiry.
    """

    public_key: bytes
    commitment: bytes
    created_at: int
    expires_at: int

    @property
    def peer_id(self) -> PeerId:
        """The identity that this file is of."""
        return peer_id_of(self.public_key, self.commitment)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntroducerEntry:
    """A node that passes introductions to a location.

    Attributes:
        node_id: The introducer's place in the DHT.
        endpoint: Where it listens.
        handle: 16 bytes under which the location is registered there.
    """

    node_id: NodeId
    endpoint: Endpoint
    handle: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """A location that can be reached now, and through whom.

    Attributes:
        certificate: Binds the location to its identity.
        introducers: At most four, the preferred one first.
        capabilities: Bits; none is defined yet, unknown ones are ignored.
    """

    certificate: LocationCertificate
    introducers: tuple[IntroducerEntry, ...]
    capabilities: int


class _PeerFileWire(
    msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True
):
    version: int
    public_key: _Key
    commitment: _Key
    created_at: _Date
    expires_at: _Date


class _IntroducerWire(
    msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True
):
    node_id: Annotated[
        bytes, msgspec.Meta(min_length=NODE_ID_SIZE, max_length=NODE_ID_SIZE)
    ]
    endpoint: Annotated[bytes, msgspec.Meta(max_length=_MAX_ENDPOINT_SIZE)]
    handle: Annotated[
        bytes, msgspec.Meta(min_length=HANDLE_SIZE, max_length=HANDLE_SIZE)
    ]


class _PresenceWire(
    msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True
):
    version: int
    certificate: Annotated[bytes, msgspec.Meta(max_length=MAX_CERTIFICATE_SIZE)]
    introducers: Annotated[
        tuple[_IntroducerWire, ...], msgspec.Meta(max_length=MAX_INTRODUCERS)
    ]
    capabilities: Annotated[int, msgspec.Meta(ge=0, le=MAX_CAPABILITIES)]


_ENCODER = msgspec.msgpack.Encoder()
_PEER_FILE_DECODER = msgspec.msgpack.Decoder(_PeerFileWire)
_PRESENCE_DECODER = msgspec.msgpack.Decoder(_PresenceWire)
_Wire = TypeVar("_Wire", _PeerFileWire, _PresenceWire)


def certify_location(
    identity: Identity,
    *,
    signing: SigningKey,
    static: StaticKey,
    name: str,
    wall_now: float,
    lifetime_s: int,
) -> Location:
    """Let an identity certify the keys of one of its devices.

    Args:
        identity: Who certifies.
        signing: The location's signing key pair.
        static: The location's key pair for introductions.
        name: At most 32 bytes of printable text; public.
        wall_now: Unix seconds.
        lifetime_s: Seconds until the certificate ends; at most two years.

    Raises:
        ValueError: The name or the lifetime is outside its bounds.
    """
    if not _is_good_name(name):
        raise ValueError(
            f"a name is at most 32 bytes of printable text, found {name!r}"
        )
    if not 0 < lifetime_s <= MAX_LIFETIME_S:
        raise ValueError(f"lifetime_s is {lifetime_s}, expected 1 to {MAX_LIFETIME_S}")
    unsigned = LocationCertificate(
        identity_public=identity.signing.public,
        commitment=identity.commitment,
        location_public=signing.public,
        static_public=static.public,
        created_at=int(wall_now),
        expires_at=int(wall_now) + lifetime_s,
        name=name,
        signature=b"",
    )
    signature = identity.signing.sign(_CERTIFICATE_DOMAIN + unsigned.pack())
    return Location(signing, static, replace(unsigned, signature=signature))


def unpack_certificate_untrusted(data: bytes) -> LocationCertificate:
    """Read a location certificate; its signature is not checked here.

    Raises:
        MalformedRecord: The bytes break a rule of peer-file §3.
    """
    if not _CERTIFICATE.size <= len(data) <= MAX_CERTIFICATE_SIZE:
        raise MalformedRecord(
            f"a location certificate has {_CERTIFICATE.size + SIGNATURE_SIZE} to "
            f"{MAX_CERTIFICATE_SIZE} bytes, found {len(data)}"
        )
    wire = bytes(data)
    version, identity, commitment, location, static, created, expires, size = (
        _CERTIFICATE.unpack_from(wire)
    )
    if version != _CERTIFICATE_VERSION:
        raise MalformedRecord(
            f"found certificate format {version}, expected {_CERTIFICATE_VERSION}"
        )
    name_end = _CERTIFICATE.size + size
    if len(wire) != name_end + SIGNATURE_SIZE:
        raise MalformedRecord(
            f"a certificate with a name of {size} bytes has "
            f"{name_end + SIGNATURE_SIZE} bytes, found {len(wire)}"
        )
    if not created < expires <= created + MAX_LIFETIME_S:
        raise MalformedRecord(
            f"a certificate from {created} to {expires} lasts no time or too long"
        )
    return LocationCertificate(
        identity_public=identity,
        commitment=commitment,
        location_public=location,
        static_public=static,
        created_at=created,
        expires_at=expires,
        name=_name_untrusted(wire[_CERTIFICATE.size : name_end]),
        signature=wire[name_end:],
    )


def build_peer_file(identity: Identity, *, wall_now: float, seq: int) -> SignedRecord:
    """Sign the identity's public section for two years.

    Args:
        identity: Whose file it is.
        wall_now: Unix seconds.
        seq: Higher than that of any peer file published before.
    """
    created_at = int(wall_now)
    expires_at = created_at + PEER_FILE_LIFETIME_S
    wire = _PeerFileWire(
        version=_PAYLOAD_VERSION,
        public_key=identity.signing.public,
        commitment=identity.commitment,
        created_at=created_at,
        expires_at=expires_at,
    )
    return build_record(
        identity.signing,
        kind=RecordKind.PEER_FILE,
        key=peer_key(identity.peer_id),
        seq=seq,
        expires_at=expires_at,
        payload=_ENCODER.encode(wire),
    )


def build_presence(
    location: Location,
    introducers: tuple[IntroducerEntry, ...],
    *,
    wall_now: float,
    lifetime_s: int,
    seq: int,
    capabilities: int = 0,
) -> SignedRecord:
    """Sign where a location is reached for a short time.

    The record never outlives the location's certificate.

    Args:
        location: Whose presence it is.
        introducers: At most four, the preferred one first.
        wall_now: Unix seconds.
        lifetime_s: Seconds until it ends.
        seq: Higher than that of any presence of this location before.
        capabilities: 32 bits.

    Raises:
        ValueError: A field is outside its bounds.
    """
    if len(introducers) > MAX_INTRODUCERS:
        raise ValueError(f"at most 4 introducers, found {len(introducers)}")
    if not 0 <= capabilities <= MAX_CAPABILITIES:
        raise ValueError(f"capabilities are 32 bits, found {capabilities}")
    certificate = location.certificate
    wire = _PresenceWire(
        version=_PAYLOAD_VERSION,
        certificate=certificate.pack(),
        introducers=tuple(
            _IntroducerWire(entry.node_id, pack(entry.endpoint), entry.handle)
            for entry in introducers
        ),
        capabilities=capabilities,
    )
    return build_record(
        location.signing,
        kind=RecordKind.PRESENCE,
        key=peer_key(certificate.peer_id),
        seq=seq,
        expires_at=min(int(wall_now) + lifetime_s, certificate.expires_at),
        payload=_ENCODER.encode(wire),
    )


def read_peer_file(record: SignedRecord) -> PeerFile:
    """Read the payload of a peer file.

    Raises:
        MalformedRecord: The payload breaks a rule of peer-file §2.
    """
    is_file = record.kind is RecordKind.PEER_FILE and not record.is_withdrawal
    assert is_file, f"{record!r} is no peer file"
    wire = _decode_untrusted(_PEER_FILE_DECODER, record)
    return PeerFile(
        public_key=wire.public_key,
        commitment=wire.commitment,
        created_at=wire.created_at,
        expires_at=wire.expires_at,
    )


def read_presence(record: SignedRecord) -> Presence:
    """Read the payload of a presence, whose certificate ``check_binding`` verified.

    Raises:
        MalformedRecord: The payload breaks a rule of peer-file §3 or §4.
    """
    is_presence = record.kind is RecordKind.PRESENCE and not record.is_withdrawal
    assert is_presence, f"{record!r} is no presence"
    wire = _decode_untrusted(_PRESENCE_DECODER, record)
    return Presence(
        certificate=unpack_certificate_untrusted(wire.certificate),
        introducers=tuple(_introducer_untrusted(entry) for entry in wire.introducers),
        capabilities=wire.capabilities,
    )


def verify_record_untrusted(data: bytes, wall_now: float) -> SignedRecord:
    """Do all that a holder or a reader has to do before it believes a record.

    Args:
        data: The record as it came from the network or from disk.
        wall_now: Unix seconds.

    Raises:
        MalformedRecord: The bytes break the format or one of its limits.
        ExpiredRecord: The record's or its certificate's time is over.
        BadSignature: The record or its certificate is not signed by its owner.
    """
    record = parse_record_untrusted(data).verify(wall_now)
    check_binding(record, wall_now)
    return record


def check_binding(record: SignedRecord, wall_now: float) -> None:
    """Check that a record with a good signature belongs under its storage key.

    A chunk was bound by its hash already. A claim is bound to nothing: anybody may
    claim a name, readers rank the claims.

    Raises:
        MalformedRecord: The owner has no right to the key (peer-file §5).
        ExpiredRecord: The location's certificate is over.
        BadSignature: The location's certificate is not the identity's.
    """
    if record.is_withdrawal:
        _check_withdrawal_binding(record, wall_now)
    elif record.kind is RecordKind.PEER_FILE:
        _check_peer_file_binding(record)
    elif record.kind is RecordKind.PRESENCE:
        certificate = read_presence(record).certificate
        _check_certificate_binding(record, certificate, wall_now)


def _check_withdrawal_binding(record: SignedRecord, wall_now: float) -> None:
    """Check that who takes back a record owns its slot (peer-file §5.4)."""
    proof = record.payload
    if record.kind is RecordKind.PRESENCE:
        certificate = unpack_certificate_untrusted(proof)
        _check_certificate_binding(record, certificate, wall_now)
        return
    is_claim = record.kind is RecordKind.CLAIM
    expected = 0 if is_claim else COMMITMENT_SIZE
    if len(proof) != expected:
        raise MalformedRecord(
            f"who takes back a {record.kind.name} shows {expected} bytes, "
            f"found {len(proof)}"
        )
    if not is_claim and record.key != peer_key(peer_id_of(record.owner, proof)):
        raise MalformedRecord(
            f"the peer file under {short(record.key)} is not {short(record.owner)}'s "
            "to take back"
        )


def _check_peer_file_binding(record: SignedRecord) -> None:
    peer_file = read_peer_file(record)
    if peer_file.public_key != record.owner:
        raise MalformedRecord("a peer file is not signed with the key that it names")
    if record.key != peer_key(peer_file.peer_id):
        raise MalformedRecord(
            f"the peer file of {short(peer_file.peer_id)} does not belong under "
            f"{short(record.key)}"
        )
    if peer_file.expires_at != record.expires_at:
        raise MalformedRecord("a peer file and its record expire at different times")
    if peer_file.created_at >= peer_file.expires_at:
        raise MalformedRecord("a peer file expires before it was created")


def _check_certificate_binding(
    record: SignedRecord, certificate: LocationCertificate, wall_now: float
) -> None:
    if certificate.location_public != record.owner:
        raise MalformedRecord("a presence is not signed by the location it certifies")
    if record.key != peer_key(certificate.peer_id):
        raise MalformedRecord(
            f"a presence of {short(certificate.peer_id)} does not belong under "
            f"{short(record.key)}"
        )
    if record.expires_at > certificate.expires_at:
        raise MalformedRecord("a presence outlives its location's certificate")
    certificate.verify(wall_now)


def _decode_untrusted(
    decoder: "msgspec.msgpack.Decoder[_Wire]", record: SignedRecord
) -> _Wire:
    try:
        wire = decoder.decode(record.payload)
    except msgspec.MsgspecError as error:
        raise MalformedRecord(
            f"the payload of {record.kind.name} {short(record.key)}: {error}"
        ) from error
    if wire.version != _PAYLOAD_VERSION:
        raise MalformedRecord(
            f"found {record.kind.name} version {wire.version}, "
            f"expected {_PAYLOAD_VERSION}"
        )
    # MessagePack spells one value in several ways; only the shortest one is ours.
    if _ENCODER.encode(wire) != record.payload:
        raise MalformedRecord(
            f"the payload of {record.kind.name} {short(record.key)} is not in its "
            "canonical encoding"
        )
    return wire


def _introducer_untrusted(wire: _IntroducerWire) -> IntroducerEntry:
    try:
        endpoint = unpack_untrusted(wire.endpoint)
    except RemoteProtocolError as error:
        raise MalformedRecord(f"an introducer's address: {error}") from error
    return IntroducerEntry(
        node_id=NodeId(wire.node_id), endpoint=endpoint, handle=wire.handle
    )


def _name_untrusted(data: bytes) -> str:
    try:
        name = data.decode()
    except UnicodeDecodeError as error:
        raise MalformedRecord("the name of a location is not UTF-8") from error
    if not _is_good_name(name):
        raise MalformedRecord(
            f"the name of a location has {len(data)} bytes or is not printable, "
            f"expected at most {MAX_NAME_SIZE} printable ones"
        )
    return name


def _is_good_name(name: str) -> bool:
    # Printable text cannot move a terminal's cursor or forge a line of a log.
    return len(name.encode()) <= MAX_NAME_SIZE and name.isprintable()
