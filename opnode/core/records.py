"""Signed records: their exact bytes, their verification and which of two wins.

Owns the envelope (docs/protocols/record.md). It does not know what a payload means:
`peerfile` reads those of peers and checks that they belong under their key.
"""

import enum
import struct
from dataclasses import dataclass

from opnode.core.crypto import KEY_SIZE, SIGNATURE_SIZE, SigningKey, verify_again
from opnode.core.errors import (
    BadSignature,
    EquivocatingRecord,
    ExpiredRecord,
    MalformedRecord,
    StaleRecord,
)
from opnode.core.ids import STORAGE_KEY_SIZE, StorageKey, chunk_key, short

OWNER_NONE = 0
OWNER_ED25519 = 1

# Leaves room for the envelope, RPC header and token in one 1200-byte datagram.
MAX_PAYLOAD_SIZE = 1000
MAX_SEQ = 2**63 - 1
DAY_S = 86_400
# Two years; a day more forgives clocks, so an honest two-year record is accepted.
MAX_LIFETIME_S = 2 * 365 * DAY_S
CLOCK_TOLERANCE_S = DAY_S

_FORMAT_VERSION = 1
# Added to the number of a kind: the record says that the owner takes its own back.
_WITHDRAWN = 0x80
_SIGNATURE_DOMAIN = b"opnode record v1\0"
_PREFIX = struct.Struct(f"!BB{STORAGE_KEY_SIZE}sB")
_SUFFIX = struct.Struct("!QQH")

RECORD_OVERHEAD = _PREFIX.size + KEY_SIZE + _SUFFIX.size + SIGNATURE_SIZE
MAX_RECORD_SIZE = RECORD_OVERHEAD + MAX_PAYLOAD_SIZE


class RecordKind(enum.IntEnum):
    """What a record's payload is; the numbers travel on the wire."""

    PEER_FILE = 1
    PRESENCE = 2
    CHUNK = 3
    CLAIM = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRecord:
    """A record whose signature was made here or has been verified.

    Attributes:
        kind: What the payload is.
        key: The 20-byte storage key it lives under.
        owner_type: ``OWNER_ED25519``, or ``OWNER_NONE`` for a chunk.
        owner: The 32-byte public key that signed, or nothing for a chunk.
        seq: Higher replaces lower; 0 for a chunk.
        expires_at: Unix seconds; not valid from this second on.
        payload: At most 1000 bytes.
        signature: 64 bytes, or nothing for a chunk.
        wire: The exact encoded form, which holders keep and pass on.
        is_withdrawal: The owner takes back what it had in this slot. The payload then
            only proves its right to the slot (record §5.6).
    """

    kind: RecordKind
    key: StorageKey
    owner_type: int
    owner: bytes
    seq: int
    expires_at: int
    payload: bytes
    signature: bytes
    wire: bytes
    is_withdrawal: bool = False

    def __repr__(self) -> str:
        owner = short(self.owner) if self.owner else "nobody"
        what = f"{'withdrawn ' if self.is_withdrawal else ''}{self.kind.name}"
        return (
            f"SignedRecord({what} of {owner} under {short(self.key)}, "
            f"seq {self.seq}, {len(self.payload)} bytes)"
        )


@dataclass(frozen=True, slots=True)
class UnverifiedRecord:
    """A record with the right shape, of which nothing else is known yet.

    Attributes:
        claimed: What the record says; trust it only after ``verify`` returned it.
    """

    claimed: SignedRecord

    def verify(self, wall_now: float) -> SignedRecord:
        """Check time, sequence number and signature; cheap checks come first.

        Args:
            wall_now: Unix seconds.

        Raises:
            ExpiredRecord: Its time is over (record §4.1).
            MalformedRecord: It would live longer than two years (record §4.2), or a
                chunk is not under the hash of its bytes (record §4.4).
            BadSignature: The owner did not sign these bytes (record §4.3).
        """
        record = self.claimed
        check_lifetime(record.expires_at, wall_now, "the record")
        if record.kind is RecordKind.CHUNK:
            _check_chunk_key(record)
            return record
        signed = _SIGNATURE_DOMAIN + record.wire[:-SIGNATURE_SIZE]
        if not verify_again(record.owner, signed, record.signature):
            raise BadSignature(
                f"{record.kind.name} under {short(record.key)} is not signed by its "
                f"owner {short(record.owner)}"
            )
        return record


def build_record(
    signing_key: SigningKey,
    *,
    kind: RecordKind,
    key: StorageKey,
    seq: int,
    expires_at: int,
    payload: bytes,
) -> SignedRecord:
    """Sign a record of any kind but a chunk.

    Raises:
        ValueError: A field is outside its bounds; ``parse_record_untrusted`` would
            refuse the result.
    """
    if kind is RecordKind.CHUNK:
        raise ValueError("a chunk has no owner: use build_chunk")
    wire = _sign(
        signing_key,
        number=int(kind),
        key=key,
        seq=seq,
        expires_at=expires_at,
        payload=payload,
    )
    return parse_record_untrusted(wire).claimed


def build_withdrawal(
    signing_key: SigningKey,
    *,
    kind: RecordKind,
    key: StorageKey,
    seq: int,
    expires_at: int,
    proof: bytes,
) -> SignedRecord:
    """Sign that a slot's owner takes back what is in it (record §5.6).

    Args:
        signing_key: The slot's owner.
        kind: What is taken back; anything but a chunk, which has no owner.
        key: Where it lies.
        seq: Higher than that of what is taken back.
        expires_at: Unix seconds; not before what is taken back expires, or its old
            copies could return.
        proof: What shows the owner's right to the slot (peer-file §5.4).

    Raises:
        ValueError: A field is outside its bounds.
    """
    if kind is RecordKind.CHUNK:
        raise ValueError("a chunk has no owner who could take it back")
    wire = _sign(
        signing_key,
        number=kind | _WITHDRAWN,
        key=key,
        seq=seq,
        expires_at=expires_at,
        payload=proof,
    )
    return parse_record_untrusted(wire).claimed


def build_chunk(payload: bytes, expires_at: int) -> SignedRecord:
    """Make a content-addressed record, whose key is the hash of its bytes.

    Raises:
        ValueError: The payload or the expiry is outside its bounds.
    """
    wire = _encode_body(
        number=int(RecordKind.CHUNK),
        key=chunk_key(payload),
        owner=b"",
        seq=0,
        expires_at=expires_at,
        payload=payload,
    )
    return parse_record_untrusted(wire).claimed


def parse_record_untrusted(data: bytes) -> UnverifiedRecord:
    """Read the envelope; one record has exactly one encoding.

    Raises:
        MalformedRecord: The bytes break a rule of record §2 or §3.
    """
    if len(data) > MAX_RECORD_SIZE:
        raise MalformedRecord(
            f"a record has at most {MAX_RECORD_SIZE} bytes, found {len(data)}"
        )
    wire = bytes(data)
    kind, is_withdrawal, key, owner_type = _parse_prefix(wire)
    owner_end = _PREFIX.size + _owner_size(kind, owner_type)
    payload_at = owner_end + _SUFFIX.size
    if len(wire) < payload_at:
        raise MalformedRecord(f"a record ends early, after {len(wire)} bytes")
    seq, expires_at, payload_size = _SUFFIX.unpack_from(wire, owner_end)
    signature_size = 0 if kind is RecordKind.CHUNK else SIGNATURE_SIZE
    expected_size = payload_at + payload_size + signature_size
    if payload_size > MAX_PAYLOAD_SIZE or len(wire) != expected_size:
        raise MalformedRecord(
            f"a record with {payload_size} bytes of payload has {expected_size} bytes "
            f"and at most {MAX_PAYLOAD_SIZE} of payload, found {len(wire)} bytes"
        )
    _check_numbers(kind, seq, expires_at)
    payload_end = payload_at + payload_size
    claimed = SignedRecord(
        kind=kind,
        key=key,
        owner_type=owner_type,
        owner=wire[_PREFIX.size : owner_end],
        seq=seq,
        expires_at=expires_at,
        payload=wire[payload_at:payload_end],
        signature=wire[payload_end:],
        wire=wire,
        is_withdrawal=is_withdrawal,
    )
    return UnverifiedRecord(claimed)


def check_supersedes(new: SignedRecord, held: SignedRecord) -> None:
    """Decide whether a record may take the slot of another; returning means yes.

    The same bytes are fine. A chunk is never signed, so of two copies the one that
    lives longer is the newer (record §5.4).

    Args:
        new: The verified record that arrived.
        held: The verified record in the same slot under the same key.

    Raises:
        StaleRecord: The new one has the lower sequence number (record §5.2).
        EquivocatingRecord: Same number, other bytes (record §5.3).
    """
    assert new.key == held.key, "records under different keys share no slot"
    assert slot_of(new) == slot_of(held), "records of different slots do not compete"
    if new.wire == held.wire:
        return
    if new.kind is RecordKind.CHUNK:
        if new.expires_at < held.expires_at:
            raise StaleRecord(f"chunk {short(new.key)} is held with a later expiry")
        return
    if new.seq < held.seq:
        raise StaleRecord(
            f"{new.kind.name} of {short(new.owner)} has sequence number {new.seq}, "
            f"the one held has {held.seq}"
        )
    if new.seq == held.seq:
        raise EquivocatingRecord(
            f"{short(new.owner)} signed two {new.kind.name} records with sequence "
            f"number {new.seq}"
        )


def slot_of(record: SignedRecord) -> tuple[int, bytes]:
    """Return which place of its key's bag a record takes: kind and owner."""
    return int(record.kind), record.owner


def check_lifetime(expires_at: int, wall_now: float, what: str) -> None:
    """Check that a date of expiry lies ahead, and not too far (record §4.1, §4.2).

    Raises:
        ExpiredRecord: It is past.
        MalformedRecord: It is more than two years and a day ahead.
    """
    if expires_at <= wall_now:
        raise ExpiredRecord(f"{what} expired {wall_now - expires_at:.0f} s ago")
    if expires_at > wall_now + MAX_LIFETIME_S + CLOCK_TOLERANCE_S:
        raise MalformedRecord(f"{what} would expire in more than two years")


# Python 3.11 cannot ask an Enum class whether it has a number.
_NUMBERS = frozenset(
    [int(kind) for kind in RecordKind]
    # A chunk has no owner, so nobody can take it back.
    + [kind | _WITHDRAWN for kind in RecordKind if kind is not RecordKind.CHUNK]
)


def _parse_prefix(wire: bytes) -> tuple[RecordKind, bool, StorageKey, int]:
    if len(wire) < _PREFIX.size:
        raise MalformedRecord(f"a record ends early, after {len(wire)} bytes")
    version, number, key, owner_type = _PREFIX.unpack_from(wire)
    if version != _FORMAT_VERSION:
        raise MalformedRecord(
            f"found record format {version}, expected {_FORMAT_VERSION}"
        )
    if number not in _NUMBERS:
        raise MalformedRecord(
            f"found record kind {number}, expected 1 to 4, or 129, 130 or 132"
        )
    is_withdrawal = number >= _WITHDRAWN
    return RecordKind(number & ~_WITHDRAWN), is_withdrawal, StorageKey(key), owner_type


def _owner_size(kind: RecordKind, owner_type: int) -> int:
    expected = OWNER_NONE if kind is RecordKind.CHUNK else OWNER_ED25519
    if owner_type != expected:
        raise MalformedRecord(
            f"found owner type {owner_type} on a {kind.name}, expected {expected}"
        )
    return 0 if owner_type == OWNER_NONE else KEY_SIZE


def _check_numbers(kind: RecordKind, seq: int, expires_at: int) -> None:
    highest = 0 if kind is RecordKind.CHUNK else MAX_SEQ
    if seq > highest:
        raise MalformedRecord(
            f"found sequence number {seq} on a {kind.name}, expected 0 to {highest}"
        )
    if expires_at > MAX_SEQ:
        raise MalformedRecord(f"found expiry {expires_at}, expected 0 to {MAX_SEQ}")


def _check_chunk_key(record: SignedRecord) -> None:
    if record.key != chunk_key(record.payload):
        raise MalformedRecord(
            f"chunk under {short(record.key)} is not what the key is the hash of"
        )


def _sign(
    signing_key: SigningKey,
    *,
    number: int,
    key: StorageKey,
    seq: int,
    expires_at: int,
    payload: bytes,
) -> bytes:
    body = _encode_body(
        number=number,
        key=key,
        owner=signing_key.public,
        seq=seq,
        expires_at=expires_at,
        payload=payload,
    )
    return body + signing_key.sign(_SIGNATURE_DOMAIN + body)


def _encode_body(
    *,
    number: int,
    key: StorageKey,
    owner: bytes,
    seq: int,
    expires_at: int,
    payload: bytes,
) -> bytes:
    if len(key) != STORAGE_KEY_SIZE:
        raise ValueError(f"a storage key has 20 bytes, found {len(key)}")
    if len(payload) > MAX_PAYLOAD_SIZE:
        raise ValueError(
            f"a payload has at most {MAX_PAYLOAD_SIZE} bytes, found {len(payload)}"
        )
    if not (0 <= seq <= MAX_SEQ and 0 <= expires_at <= MAX_SEQ):
        raise ValueError(f"seq {seq} or expiry {expires_at} is not in 0..{MAX_SEQ}")
    owner_type = OWNER_ED25519 if owner else OWNER_NONE
    prefix = _PREFIX.pack(_FORMAT_VERSION, number, key, owner_type)
    return prefix + owner + _SUFFIX.pack(seq, expires_at, len(payload)) + payload
