"""Taking back a record: the smallest signed word that its slot is empty now.

Owns what proves the right to a slot, for each kind. Whether a proof is good is told
where all records are bound to their keys, in `peerfile`.
"""

from opnode.core.crypto import SigningKey
from opnode.core.peerfile import read_peer_file, read_presence
from opnode.core.records import RecordKind, SignedRecord, build_withdrawal


def withdraw(record: SignedRecord, signing_key: SigningKey, seq: int) -> SignedRecord:
    """Take back a record, for as long as it would have lasted (record §5.6).

    Args:
        record: What is taken back: anything but a chunk.
        signing_key: Its owner's.
        seq: Higher than the record's.

    Raises:
        ValueError: The key is not the owner's, the number is not higher, or it is a
            chunk, which has no owner.
    """
    if signing_key.public != record.owner:
        raise ValueError(f"{record!r} is not the key's to take back")
    if seq <= record.seq:
        raise ValueError(f"sequence number {seq} does not replace {record!r}")
    proof = b""
    if record.is_withdrawal:
        proof = record.payload
    elif record.kind is RecordKind.PEER_FILE:
        proof = read_peer_file(record).commitment
    elif record.kind is RecordKind.PRESENCE:
        proof = read_presence(record).certificate.pack()
    return build_withdrawal(
        signing_key,
        kind=record.kind,
        key=record.key,
        seq=seq,
        expires_at=record.expires_at,
        proof=proof,
    )
