"""Verified records by storage key: the bags and their rules.

Owns which record may take a slot, what is answered for a key, and how long a record is
kept. Refuses to know the file's statements and whose record makes room.
"""

import logging
from collections import Counter, OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from opnode.core.errors import (
    MalformedRecord,
    OtherSequence,
    RecordError,
    StorageError,
)
from opnode.core.ids import NodeId, StorageKey, short
from opnode.core.peerfile import verify_record_untrusted
from opnode.core.records import (
    RecordKind,
    SignedRecord,
    check_supersedes,
    parse_record_untrusted,
    slot_of,
)
from opnode.drivers.store.config import StoreConfig
from opnode.drivers.store.file import MEMORY, Gone, RecordFile, Slot
from opnode.drivers.store.quotas import OWN, UNBOUND, Quotas, group_of
from opnode.protocols.rpc.messages import NO_RECORD

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

# A longer life is written down once it is worth a write to the disk.
_WORTH_WRITING_S: Final = 3600


class Held(NamedTuple):
    """A record that is held, on whose quota it goes, and how long it is kept."""

    record: SignedRecord
    group: bytes
    kept_until: int


class BagFull(StorageError):  # noqa: N818 - named as its siblings
    """Sixteen owners hold a slot of the kind under the key; the oldest stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatistics:
    """What is held now."""

    records: int
    bytes: int


class RecordStore:
    """Verified records by storage key.

    Attributes:
        on_accepted: hears of each record that is new here, or newer than the one held.
    """

    def __init__(
        self, path: Path | str = MEMORY, *, config: StoreConfig | None = None
    ) -> None:
        """Open or create the file; a corrupt one is set aside.

        Raises:
            StorageError: the file can neither be opened nor set aside.
        """
        self.on_accepted: Callable[[SignedRecord], None] | None = None
        self._config = config or StoreConfig()
        self._mirror: OrderedDict[bytes, tuple[Held, ...]] = OrderedDict()
        self._file = RecordFile(path)
        self._quotas = Quotas(self._file, self._config, self._forget)
        self._has_failed = False

    @property
    def near(self) -> NodeId:
        """Our place. When room is needed, what lies far from it goes first."""
        return self._quotas.near

    @near.setter
    def near(self, near: NodeId) -> None:
        self._quotas.near = near

    def put_untrusted(
        self,
        data: bytes,
        wall_now: float,
        source: str | None = None,
        *,
        expected_seq: int | None = None,
    ) -> SignedRecord:
        """Verify a record and hold it; the same bytes again are fine.

        Args:
            data: the record.
            wall_now: Unix seconds.
            source: the host that brought it, on whose network's quota it goes as long
                as it is held; None for ourselves.
            expected_seq: the sequence number that must be held in its slot, or
                ``NO_RECORD`` for none; None for any.

        Raises:
            RecordError: it does not verify, or a better one is held; OtherSequence
                if the condition is not met.
            BagFull, StoreFull: there is no place for it.
        """
        record = verify_record_untrusted(data, wall_now)
        live = self._live(record.key, wall_now)
        slot = slot_of(record)
        held = next((one for one in live if slot_of(one.record) == slot), None)
        if held is not None and held.record.wire == record.wire:
            self._prolong(held, wall_now)
            return record
        try:
            _check_takes_slot(record, held, expected_seq)
        except RecordError:
            if held is None or _is_sound(held.record, wall_now):
                raise
            # The disk spoilt what was verified when it entered: it is worth nothing.
            self._quotas.left(self._file.delete(_slot(held.record)))
            held = None
            _check_takes_slot(record, held, expected_seq)
        if held is not None:
            self._replace(held, record, wall_now)
        else:
            self._enter(record, source, wall_now)
        if self.on_accepted is not None:
            self.on_accepted(record)
        return record

    def records(self, key: bytes, wall_now: float) -> list[SignedRecord]:
        """The live records under a key; none if the disk fails.

        Kinds that are bound to the key come first, of one kind the oldest slot.
        """
        try:
            bag = self._bag(key)
        except StorageError as error:
            self._note_failure(error)
            return []
        return [one.record for one in bag if one.record.expires_at > wall_now]

    def keys_after(self, key: bytes, count: int) -> list[StorageKey]:
        """The next keys under which something is held; none if the disk fails."""
        try:
            return self._file.keys_after(key, count)
        except StorageError as error:
            self._note_failure(error)
            return []

    def keys_around(self, count: int) -> list[StorageKey]:
        """The keys next to our place, most of them; none if the disk fails."""
        try:
            return self._file.keys_around(self.near, count)
        except StorageError as error:
            self._note_failure(error)
            return []

    def expire(self, wall_now: float) -> int:
        """Drop what is past its time; returns how many, none if the disk fails.

        A full or broken disk ends what a node holds for others, not the node.
        """
        try:
            dropped = self._quotas.left(self._file.expire(int(wall_now)))
        except StorageError as error:
            self._note_failure(error)
            return 0
        self._has_failed = False
        return dropped

    def statistics(self) -> StoreStatistics:
        """Read the counters."""
        return StoreStatistics(records=self._quotas.records, bytes=self._quotas.bytes)

    def close(self) -> None:
        """Close the file; idempotent."""
        self._file.close()

    def _live(self, key: StorageKey, wall_now: float) -> tuple[Held, ...]:
        """What is held under a key; slots whose time is over are emptied."""
        bag = self._bag(key)
        over = [one.record for one in bag if one.record.expires_at <= wall_now]
        for record in over:
            self._quotas.left(self._file.delete(_slot(record)))
        return self._bag(key) if over else bag

    def _replace(self, held: Held, record: SignedRecord, wall_now: float) -> None:
        """Put a newer record in its slot: its age and its quota stay."""
        bag = self._bag(record.key)
        newer = self._write(record, held.group, wall_now)
        self._quotas.bytes += len(record.wire) - len(held.record.wire)
        self._remember(record.key, [newer if one == held else one for one in bag])

    def _enter(self, record: SignedRecord, source: str | None, wall_now: float) -> None:
        """Give a record a slot of its own."""
        group = group_of(source)
        self._find_slot(record, group)
        self._quotas.make_room(record, source)
        # What made room may have stood in this bag, so it is read only now.
        others = self._bag(record.key)
        held = self._write(record, group, wall_now)
        self._quotas.entered(record, group)
        self._remember(record.key, [*others, held])

    def _find_slot(self, record: SignedRecord, group: bytes) -> None:
        """See that a bag has a slot left.

        The oldest stay. But of claims, which anybody can make, one network does not
        keep the others out: it gives a slot to one that has fewer (dht §4.3).
        """
        taken = [one for one in self._bag(record.key) if one.record.kind is record.kind]
        if len(taken) < self._config.bag_slots:
            return
        shares = Counter(one.group for one in taken if one.group != OWN)
        if record.kind in UNBOUND and shares:
            largest, share = shares.most_common(1)[0]
            mine = shares[group] if group != OWN else 0
            if mine + 1 < share:
                youngest = [one for one in taken if one.group == largest][-1]
                self._quotas.left(self._file.delete(_slot(youngest.record)))
                return
        raise BagFull(
            f"{len(taken)} owners hold a {record.kind.name} under {short(record.key)}"
        )

    def _kept_until(self, record: SignedRecord, wall_now: float) -> int:
        # A withdrawal that leaves early lets old copies of what it took back return.
        if record.kind not in UNBOUND or record.is_withdrawal:
            return record.expires_at
        return min(record.expires_at, int(wall_now) + self._config.unbound_kept_s)

    def _prolong(self, held: Held, wall_now: float) -> None:
        until = self._kept_until(held.record, wall_now)
        if until - held.kept_until < _WORTH_WRITING_S:
            return
        key = held.record.key
        bag = self._bag(key)
        self._file.prolong(_slot(held.record), until)
        longer = held._replace(kept_until=until)
        self._remember(key, [longer if one == held else one for one in bag])

    def _bag(self, key: bytes) -> tuple[Held, ...]:
        mirrored = self._mirror.get(key)
        if mirrored is not None:
            return mirrored
        held = []
        for wire, group, kept_until in self._file.bag(key):
            try:
                # Verified when it entered; readers verify again.
                record = parse_record_untrusted(wire).claimed
            except MalformedRecord as error:
                logger.warning("a record on disk is damaged and ignored: %s", error)
            else:
                # Else the disk spoilt it just there: no record of this bag any more.
                if record.key == key:
                    held.append(Held(record, group, kept_until))
        return self._remember(StorageKey(key), held)

    def _remember(self, key: StorageKey, held: list[Held]) -> tuple[Held, ...]:
        # Stable, and the numbers are in the right order: a peer's own kinds first.
        self._mirror[key] = bag = tuple(sorted(held, key=_kind_of))
        self._mirror.move_to_end(key)
        if len(self._mirror) > self._config.mirrored_keys:
            self._mirror.popitem(last=False)
        return bag

    def _write(self, record: SignedRecord, group: bytes, wall_now: float) -> Held:
        until = self._kept_until(record, wall_now)
        self._file.write(_slot(record), wire=record.wire, kept_until=until, group=group)
        return Held(record, group, until)

    def _forget(self, gone: Gone) -> None:
        self._mirror.pop(gone.key, None)

    def _note_failure(self, error: StorageError) -> None:
        # Once until it works again: it is tried every minute.
        if not self._has_failed:
            self._has_failed = True
            logger.warning("no records can be held for now: %s", error)


def _slot(record: SignedRecord) -> Slot:
    return Slot(record.key, int(record.kind), record.owner)


def _kind_of(held: Held) -> RecordKind:
    return held.record.kind


def _is_sound(record: SignedRecord, wall_now: float) -> bool:
    try:
        verify_record_untrusted(record.wire, wall_now)
    except RecordError:
        return False
    return True


def _check_takes_slot(
    record: SignedRecord, held: Held | None, expected_seq: int | None
) -> None:
    if expected_seq is not None:
        _check_expected(held, expected_seq)
    if held is not None:
        check_supersedes(record, held.record)


def _check_expected(held: Held | None, expected_seq: int) -> None:
    """Compare what is held with what a conditional put expects (BEP 44 "cas")."""
    found = NO_RECORD if held is None else held.record.seq
    if found != expected_seq:
        raise OtherSequence(
            f"{_sequence(found)} is held, expected {_sequence(expected_seq)}"
        )


def _sequence(seq: int) -> str:
    return "nothing" if seq == NO_RECORD else f"sequence number {seq}"
