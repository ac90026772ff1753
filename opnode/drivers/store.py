"""The records that a node holds for others, on disk.

Owns the SQLite file, the bags and their limits, whose records make room for others',
and expiry. Every record is verified before it enters. Refuses to know who may ask for
one, and whether its sender's address is true: the caller does.
"""

import logging
import sqlite3
from collections import Counter, OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from opnode.core.addresses import is_public, subnet_group
from opnode.core.errors import MalformedRecord, StorageError
from opnode.core.ids import STORAGE_KEY_SIZE, NodeId, StorageKey, distance, short
from opnode.core.peerfile import verify_record_untrusted
from opnode.core.records import (
    RecordKind,
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
    expires_at INTEGER NOT NULL, wire BLOB NOT NULL, source BLOB NOT NULL DEFAULT x'',
    PRIMARY KEY (key, kind, owner)
);
CREATE INDEX IF NOT EXISTS record_by_expiry ON record (expires_at);
"""
# A file from before quotas: its records count for nobody.
_ADD_SOURCE: Final = "ALTER TABLE record ADD COLUMN source BLOB NOT NULL DEFAULT x''"
# CHUNK and CLAIM (3, 4) by their place, everywhere and for each source.
_UNBOUND_INDEXES: Final = """
CREATE INDEX IF NOT EXISTS unbound_by_key ON record (key) WHERE kind >= 3;
CREATE INDEX IF NOT EXISTS unbound_by_source ON record (source, key) WHERE kind >= 3;
"""
_UNBOUND: Final = frozenset((RecordKind.CHUNK, RecordKind.CLAIM))
"""Kinds of which anybody can make as many as they like, at places of their choice."""

# ``expires_at`` is how long we keep a record: no longer than it lives.
_EXPIRE: Final = (
    "DELETE FROM record WHERE expires_at <= ? RETURNING key, length(wire), source"
)
_DELETE: Final = (
    "DELETE FROM record WHERE key = ? AND kind = ? AND owner = ? "
    "RETURNING key, length(wire), source"
)
_EVICT: Final = (
    "DELETE FROM record WHERE kind >= 3 AND key = ? RETURNING key, length(wire), source"
)
_EVICT_OF: Final = (
    "DELETE FROM record WHERE kind >= 3 AND key = ? AND source = ? "
    "RETURNING key, length(wire), source"
)
_UNBOUND_IN: Final = (
    "SELECT key, kind, source FROM record "
    "WHERE kind >= 3 AND key BETWEEN ? AND ? LIMIT 2"
)
_UNBOUND_IN_OF: Final = (
    "SELECT key, kind, source FROM record "
    "WHERE kind >= 3 AND key BETWEEN ? AND ? AND source = ? LIMIT 2"
)
_PROLONG: Final = (
    "UPDATE record SET expires_at = ? "
    "WHERE key = ? AND kind = ? AND owner = ? AND expires_at < ?"
)
# A longer life is written down once it is worth a write to the disk.
_WORTH_WRITING_S: Final = 3600


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
        group_records: records brought by one public /24 or /48: 1 % of all. A put goes
            to twenty nodes of the whole network, so honest neighbours bring a few.
        local_group_records: the same for a private or loopback network. A lab or a
            home lives in one of them, and no stranger has an address there.
        unbound_kept_s: CHUNK and CLAIM cost nothing to make. They are kept for a day
            after they were last brought; owners bring theirs every six hours.
        mirrored_keys: bags kept parsed in memory; a bag is at most 40 kB, mostly 1 kB.
    """

    max_records: int = 100_000
    max_bytes: int = 100_000_000
    bag_slots: int = 16
    group_records: int = 1000
    local_group_records: int = 10_000
    unbound_kept_s: int = 86_400
    mirrored_keys: int = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatistics:
    """What is held now."""

    records: int
    bytes: int


class RecordStore:
    """Verified records by storage key.

    Attributes:
        near: our place. When room is needed, unbound records go, the farthest first.
    """

    def __init__(
        self, path: Path | str = MEMORY, *, config: StoreConfig | None = None
    ) -> None:
        """Open or create the file; a corrupt one is set aside.

        Raises:
            StorageError: the file can neither be opened nor set aside.
        """
        self.near = NodeId(bytes(STORAGE_KEY_SIZE))
        self._config = config or StoreConfig()
        self._mirror: OrderedDict[bytes, tuple[SignedRecord, ...]] = OrderedDict()
        self._database = _open(path)
        count, size = self._database.execute(
            "SELECT count(*), coalesce(sum(length(wire)), 0) FROM record"
        ).fetchone()
        self._records: int = count
        self._bytes: int = size
        self._has_failed = False
        self._groups: Counter[bytes] = Counter(
            dict(
                self._database.execute(
                    "SELECT source, count(*) FROM record GROUP BY source"
                ).fetchall()
            )
        )

    def put_untrusted(
        self, data: bytes, wall_now: float, source: str | None = None
    ) -> SignedRecord:
        """Verify a record and hold it; the same bytes again are fine.

        Args:
            data: the record.
            wall_now: Unix seconds.
            source: the host that brought it, on whose network's quota it goes as long
                as it is held; None for ourselves.

        Raises:
            RecordError: it does not verify, or a better one is held.
            BagFull, StoreFull: there is no place for it.
        """
        record = verify_record_untrusted(data, wall_now)
        bag = self._bag(record.key)
        live = [held for held in bag if held.expires_at > wall_now]
        if len(live) < len(bag):
            for old in bag:
                if old not in live:
                    self._drop(_DELETE, (record.key, int(old.kind), old.owner))
        slot = slot_of(record)
        held = next((other for other in live if slot_of(other) == slot), None)
        if held is not None:
            check_supersedes(record, held)
            if held.wire == record.wire:
                self._prolong(record, wall_now)
                return record
        else:
            self._check_slots(record, live)
            self._make_room(record, source)
            # What made room may have stood in this bag.
            live = list(self._bag(record.key))
        self._write(record, held, self._kept_until(record, wall_now), source)
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
            dropped = self._drop(_EXPIRE, (int(wall_now),))
        except StorageError as error:
            self._note_failure(error)
            return 0
        self._has_failed = False
        return dropped

    def statistics(self) -> StoreStatistics:
        """Read the counters."""
        return StoreStatistics(records=self._records, bytes=self._bytes)

    def close(self) -> None:
        """Close the file; idempotent."""
        self._database.close()

    def _check_slots(self, record: SignedRecord, live: list[SignedRecord]) -> None:
        taken = sum(held.kind is record.kind for held in live)
        if taken >= self._config.bag_slots:
            raise BagFull(
                f"{taken} owners hold a {record.kind.name} under {short(record.key)}"
            )

    def _make_room(self, record: SignedRecord, source: str | None) -> None:
        """Evict what is worth less than the record until it has a place."""
        config = self._config
        if source is not None:
            group = subnet_group(source)
            public = is_public(source)
            limit = config.group_records if public else config.local_group_records
            while self._groups[group] >= limit:
                if not self._evict(record, group):
                    raise StoreFull(f"{limit} records of your network are held")
        while self._records >= config.max_records:
            if not self._evict(record, None):
                raise StoreFull(f"{self._records} records are held, that is the limit")
        while self._bytes + len(record.wire) > config.max_bytes:
            if not self._evict(record, None):
                raise StoreFull(f"{self._bytes} bytes are held, that is near the limit")

    def _evict(self, record: SignedRecord, group: bytes | None) -> bool:
        """Drop the farthest unbound record, of one group or of all, if it may go.

        One that is bound to its key displaces any; another only one farther away.
        """
        key = self._farthest(group)
        if key is None:
            return False
        is_nearer = distance(record.key, self.near) < distance(key, self.near)
        if record.kind in _UNBOUND and not is_nearer:
            return False
        if group is None:
            return self._drop(_EVICT, (key,)) > 0
        return self._drop(_EVICT_OF, (key, group)) > 0

    def _farthest(self, group: bytes | None) -> bytes | None:
        """The key of the farthest unbound record.

        Ids with a common prefix are a range of keys, so the farthest is found by going
        down the bits of our id and taking the other side wherever there is a record:
        a few index look-ups (0.1 ms among 100 000), and no order to keep up to date.
        """
        bits = 8 * STORAGE_KEY_SIZE
        if not self._unbound_between(0, (1 << bits) - 1, group):
            return None
        near = int.from_bytes(self.near, "big")
        lower = 0
        for bit in reversed(range(bits)):
            size = 1 << bit
            far = lower if near & size else lower + size
            found = self._unbound_between(far, far + size - 1, group)
            if len(found) == 1:
                return found[0]
            lower = far if found else 2 * lower + size - far
        return lower.to_bytes(STORAGE_KEY_SIZE, "big")

    def _unbound_between(
        self, lower: int, upper: int, group: bytes | None
    ) -> list[bytes]:
        """The keys of one or two unbound records in a range, ends included."""
        ends = (
            lower.to_bytes(STORAGE_KEY_SIZE, "big"),
            upper.to_bytes(STORAGE_KEY_SIZE, "big"),
        )
        if group is None:
            rows = self._execute(_UNBOUND_IN, ends)
        else:
            rows = self._execute(_UNBOUND_IN_OF, (*ends, group))
        return [key for key, _, _ in rows]

    def _kept_until(self, record: SignedRecord, wall_now: float) -> int:
        if record.kind not in _UNBOUND:
            return record.expires_at
        return min(record.expires_at, int(wall_now) + self._config.unbound_kept_s)

    def _prolong(self, record: SignedRecord, wall_now: float) -> None:
        if record.kind not in _UNBOUND:
            return
        until = self._kept_until(record, wall_now)
        slot = (record.key, int(record.kind), record.owner)
        self._execute(_PROLONG, (until, *slot, until - _WORTH_WRITING_S))

    def _bag(self, key: bytes) -> tuple[SignedRecord, ...]:
        held = self._mirror.get(key)
        if held is not None:
            return held
        rows = self._execute(
            "SELECT wire, kind, source FROM record WHERE key = ? ORDER BY rowid",
            (bytes(key),),
        )
        records = []
        for wire, _, _ in rows:
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

    def _write(
        self,
        record: SignedRecord,
        held: SignedRecord | None,
        until: int,
        source: str | None,
    ) -> None:
        group = subnet_group(source) if source is not None else b""
        # An update keeps the row, with the slot's age and whose quota it is on.
        self._execute(
            "INSERT INTO record (key, kind, owner, expires_at, wire, source) "
            "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key, kind, owner) "
            "DO UPDATE SET expires_at = excluded.expires_at, wire = excluded.wire",
            (
                record.key,
                int(record.kind),
                record.owner,
                # SQLite's integers end where ours do.
                until,
                record.wire,
                group,
            ),
        )
        self._bytes += len(record.wire) - (len(held.wire) if held is not None else 0)
        if held is None:
            self._records += 1
            self._groups[group] += 1

    def _drop(self, statement: str, values: tuple[bytes | int, ...]) -> int:
        """Run one of the DELETEs above and count what went."""
        rows = self._execute(statement, values)
        for key, size, group in rows:
            self._mirror.pop(key, None)
            self._records -= 1
            self._bytes -= size
            self._groups[group] -= 1
            if not self._groups[group]:
                del self._groups[group]
        return len(rows)

    def _note_failure(self, error: StorageError) -> None:
        # Once until it works again: it is tried every minute.
        if not self._has_failed:
            self._has_failed = True
            logger.warning("no records can be held for now: %s", error)

    def _execute(
        self, statement: str, values: tuple[bytes | int, ...]
    ) -> list[tuple[bytes, int, bytes]]:
        try:
            rows: list[tuple[bytes, int, bytes]] = self._database.execute(
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
        if path == MEMORY:
            # There may be a thousand nodes in one process. With larger pages and the
            # checks of a file, each empty database takes 170 kB, not 30.
            database.execute("PRAGMA page_size = 1024")
            database.executescript(_SCHEMA + _UNBOUND_INDEXES)
            return database
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(_SCHEMA)
        _check(database)
        columns = {row[1] for row in database.execute("PRAGMA table_info(record)")}
        if "source" not in columns:
            database.execute(_ADD_SOURCE)
        database.executescript(_UNBOUND_INDEXES)
        database.execute(
            "SELECT key, kind, owner, expires_at, wire, source FROM record LIMIT 1"
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
