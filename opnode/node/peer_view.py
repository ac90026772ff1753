"""What is published of one peer, as this node verified it.

Owns how the records under a peer's key are read together. Refuses to know where they
come from; they were verified on their way in.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from opnode.core.ids import PeerId
from opnode.core.peerfile import PeerFile, Presence, read_peer_file, read_presence
from opnode.core.records import RecordKind, SignedRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerView:
    """What a lookup found, every byte of it verified here."""

    peer_id: PeerId
    peer_file: PeerFile | None
    presences: tuple[Presence, ...]


def is_presence(record: SignedRecord) -> bool:
    """Whether a record says who introduces a location."""
    return record.kind is RecordKind.PRESENCE


def view_of(peer_id: PeerId, records: Sequence[SignedRecord]) -> PeerView:
    """Newest presence first; the records were verified on their way in."""
    newest = sorted(records, key=lambda record: record.seq, reverse=True)
    files = [r for r in newest if r.kind is RecordKind.PEER_FILE]
    return PeerView(
        peer_id=peer_id,
        peer_file=read_peer_file(files[0]) if files else None,
        presences=tuple(read_presence(r) for r in newest if is_presence(r)),
    )
