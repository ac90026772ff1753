"""The records that a node holds for others, on disk.

Owns the SQLite file, the bags and their limits, and expiry. Every record is verified
before it enters. Refuses to know who sent a record and who may ask for it.
"""

import logging
import sqlite3
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from opnode.core.errors import MalformedRecord, StorageError
from opnode.core.ids import StorageKey, short
from opnode.core.peerfile import verify_record_untrusted
from opnode.core.records import (
    SignedRecord,
    check_supersedes,
    parse_record_untrusted,
    slot_of,
)

logger = logging.getLogger(__name__)

MEMORY: Final = ":memory:"

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS record (
    key BLOB NOT NULL, kind INTEGER NOT NULL, owner BLOB NOT NULL,
    expires_at INTEGER NOT NULL, wire BLOB NOT NULL,
    PRIMARY KEY (key, kind, owner)
);
CREATE INDEX IF NOT EXISTS record_by_expiry ON record (expires_at);
"""


class BagFull(StorageError):  # noqa: N818 - named as its siblings
    """Sixteen owners hold a slot of the kind under the key; the oldest stay."""


class StoreFull(StorageError):  # noqa: N818 - named as its siblings
    """The node holds as much as it is willing to. Put it elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """Limits of what a node holds for others.

    Attributes:
        max_records: about 100 MB of disk at the full record size.
        max_bytes: the same bound in bytes, of the records alone.
        bag_slots: owners of one kind under one key (architecture §4). Each kind has
            its own, so that claims, which anybody may make, leave a peer its place.
        mirrored_keys: bags kept parsed in memory; a bag is at most 40 kB, mostly 1 kB.
    """

    max_records: int = 100_000
    max_bytes: int = 100_000_000
    bag_slots: int = 16
    mirrored_keys: int = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatistics:
    """What is held now."""

    records: int
    bytes: int


class RecordStore:
    """Verified records by storage key."""

    def __init__(
        self, path: Path | str = MEMORY, *, config: StoreConfig | None = None
    ) -> None:
        """Open or create the file; a corrupt one is set aside.

        Raises:
            StorageError: the file can neither be opened nor set aside.
        """
        self._config = config or StoreConfig()
        self._mirror: OrderedDict[bytes, tuple[SignedRecord, ...]] = OrderedDict()
        self._database = _open(path)
        count, size = self._database.execute(
            "SELECT count(*), coalesce(sum(length(wire)), 0) FROM record"
        ).fetchone()
        self._records: int = count
        self._bytes: int = size
        self._has_failed = False

    def put_untrusted(self, data: bytes, wall_now: float) -> SignedRecord:
        """Verify a record and hold it; the same bytes again are fine.

        Raises:
            RecordError: it does not verify, or a better one is held.
            BagFull, StoreFull: there is no place for it.
        """
        record = verify_record_untrusted(data, wall_now)
        bag = self._bag(record.key)
        live = [held for held in bag if held.expires_at > wall_now]
        if len(live) < len(bag):
            self._delete(record.key, [held for held in bag if held not in live])
        slot = slot_of(record)
        held = next((other for other in live if slot_of(other) == slot), None)
        if held is not None:
            check_supersedes(record, held)
            if held.wire == record.wire:
                return record
        else:
            self._check_room(record, sum(r.kind is record.kind for r in live))
        self._write(record, held)
        bag_now = [record if other is held else other for other in live]
        self._remember(record.key, bag_now if held is not None else [*live, record])
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
        return [r for r in bag if r.expires_at > wall_now]

    def expire(self, wall_now: float) -> int:
        """Drop what is past its time; returns how many, none if the disk fails.

        A full or broken disk ends what a node holds for others, not the node.
        """
        try:
            rows = self._execute(
                "DELETE FROM record WHERE expires_at <= ? RETURNING key, length(wire)",
                (int(wall_now),),
            )
        except StorageError as error:
            self._note_failure(error)
            return 0
        self._has_failed = False
        for key, size in rows:
            self._mirror.pop(key, None)
            self._records -= 1
            self._bytes -= size
        return len(rows)

    def statistics(self) -> StoreStatistics:
        """Read the counters."""
        return StoreStatistics(records=self._records, bytes=self._bytes)

    def close(self) -> None:
        """Close the file; idempotent."""
        self._database.close()

    def _check_room(self, record: SignedRecord, live: int) -> None:
        if live >= self._config.bag_slots:
            raise BagFull(
                f"{live} owners hold a {record.kind.name} under {short(record.key)}"
            )
        if self._records >= self._config.max_records:
            raise StoreFull(f"{self._records} records are held, that is the limit")
        if self._bytes + len(record.wire) > self._config.max_bytes:
            raise StoreFull(f"{self._bytes} bytes are held, that is near the limit")

    def _bag(self, key: bytes) -> tuple[SignedRecord, ...]:
        held = self._mirror.get(key)
        if held is not None:
            return held
        rows = self._execute(
            "SELECT wire, kind FROM record WHERE key = ? ORDER BY rowid", (bytes(key),)
        )
        records = []
        for wire, _ in rows:
            try:
                # Verified when it entered; readers verify again.
                records.append(parse_record_untrusted(wire).claimed)
            except MalformedRecord as error:
                logger.warning("a record on disk is damaged and ignored: %s", error)
        return self._remember(StorageKey(key), records)

    def _remember(
        self, key: StorageKey, records: list[SignedRecord]
    ) -> tuple[SignedRecord, ...]:
        # Stable, and the numbers are in the right order: a peer's own kinds first.
        self._mirror[key] = bag = tuple(sorted(records, key=lambda r: r.kind))
        self._mirror.move_to_end(key)
        if len(self._mirror) > self._config.mirrored_keys:
            self._mirror.popitem(last=False)
        return bag

    def _write(self, record: SignedRecord, held: SignedRecord | None) -> None:
        # An update keeps the row, and with it the slot's age.
        self._execute(
            "INSERT INTO record (key, kind, owner, expires_at, wire) "
            "VALUES (?, ?, ?, ?, ?) ON CONFLICT (key, kind, owner) "
            "DO UPDATE SET expires_at = excluded.expires_at, wire = excluded.wire",
            (
                record.key,
                int(record.kind),
                record.owner,
                # SQLite's integers end where ours do.
                record.expires_at,
                record.wire,
            ),
        )
        self._records += held is None
        self._bytes += len(record.wire) - (len(held.wire) if held is not None else 0)

    def _delete(self, key: bytes, records: list[SignedRecord]) -> None:
        for record in records:
            self._execute(
                "DELETE FROM record WHERE key = ? AND kind = ? AND owner = ?",
                (key, int(record.kind), record.owner),
            )
            self._records -= 1
            self._bytes -= len(record.wire)
        self._mirror.pop(key, None)

    def _note_failure(self, error: StorageError) -> None:
        # Once until it works again: it is tried every minute.
        if not self._has_failed:
            self._has_failed = True
            logger.warning("no records can be held for now: %s", error)

    def _execute(
        self, statement: str, values: tuple[bytes | int, ...]
    ) -> list[tuple[bytes, int]]:
        try:
            rows: list[tuple[bytes, int]] = self._database.execute(
                statement, values
            ).fetchall()
        except sqlite3.DatabaseError as error:
            raise StorageError(f"the record store: {error}") from error
        return rows


def _open(path: Path | str) -> sqlite3.Connection:
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        if str(path) == MEMORY:
            raise StorageError(f"the record store: {error}") from error
        aside = _set_aside(Path(path))
        logger.warning(
            "%s is not a record store (%s): set aside as %s, starting empty",
            path,
            error,
            aside.name,
        )
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        raise StorageError(f"the record store {path}: {error}") from error


def _connect(path: Path | str) -> sqlite3.Connection:
    # Autocommit: each statement is one transaction. Lost power may lose the last
    # records, which owners put again, but never the file (WAL, synchronous=NORMAL).
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(_SCHEMA)
        _check(database)
        database.execute(
            "SELECT key, kind, owner, expires_at, wire FROM record LIMIT 1"
        )
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database


def _check(database: sqlite3.Connection) -> None:
    (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)


def _set_aside(path: Path) -> Path:
    """Rename the file to the first free ``.corrupt-N``; its journals are worthless."""
    number = 1
    while (aside := path.with_name(f"{path.name}.corrupt-{number}")).exists():
        number += 1
    try:
        path.rename(aside)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{path} cannot be set aside: {error}") from error
    return aside
