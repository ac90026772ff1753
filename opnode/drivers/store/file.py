"""The SQLite file of the records that a node holds.

Owns the schema, every statement, and what is done with a file that is damaged. Refuses
to know which record deserves a place. Every change is one transaction that is written
before its method returns, so a killed process loses nothing that was acknowledged.
"""

import enum
import logging
import os
import sqlite3
from pathlib import Path
from typing import Any, Final, NamedTuple

from opnode.core.errors import StorageError
from opnode.core.ids import STORAGE_KEY_SIZE, StorageKey, distance

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
# CHUNK and CLAIM (3, 4) by their place, for each source and owner; the others by age.
_INDEXES: Final = """
DROP INDEX IF EXISTS unbound_by_key;
CREATE INDEX IF NOT EXISTS unbound_by_source ON record (source, key) WHERE kind >= 3;
CREATE INDEX IF NOT EXISTS bound_by_source ON record (source) WHERE kind < 3;
CREATE INDEX IF NOT EXISTS owned_by_owner ON record (owner, key) WHERE kind <> 3;
"""

# ``expires_at`` is how long we keep a record: no longer than it lives.
_EXPIRE: Final = (
    "DELETE FROM record WHERE expires_at <= ? "
    "RETURNING key, coalesce(length(wire), 0), coalesce(CAST(source AS BLOB), x'')"
)
_DELETE: Final = (
    "DELETE FROM record WHERE key = ? AND kind = ? AND owner = ? "
    "RETURNING key, coalesce(length(wire), 0), coalesce(CAST(source AS BLOB), x'')"
)
_COUNT_OF_OWNER: Final = (
    "SELECT count(*) FROM (SELECT 1 FROM record WHERE kind <> 3 AND owner = ? LIMIT ?)"
)
_EVICT_YOUNGEST: Final = (
    "DELETE FROM record WHERE rowid = "
    "(SELECT max(rowid) FROM record WHERE kind < 3 AND source = ?) "
    "RETURNING key, coalesce(length(wire), 0), coalesce(CAST(source AS BLOB), x'')"
)
_PROLONG: Final = (
    "UPDATE record SET expires_at = ? WHERE key = ? AND kind = ? AND owner = ?"
)
# A damaged row may have values of other types than its columns; none gets out.
_BAG: Final = (
    "SELECT coalesce(CAST(wire AS BLOB), x''), coalesce(CAST(source AS BLOB), x''), "
    "coalesce(CAST(expires_at AS INTEGER), 0) "
    "FROM record WHERE key = ? ORDER BY rowid"
)
_GROUPS: Final = (
    "SELECT coalesce(CAST(source AS BLOB), x'') AS brought_by, count(*) "
    "FROM record GROUP BY brought_by"
)
_SIZE: Final = "SELECT coalesce(sum(length(wire)), 0) FROM record"
_KEYS_AFTER: Final = (
    "SELECT DISTINCT key FROM record WHERE key > ? ORDER BY key LIMIT ?"
)
_KEYS_BEFORE: Final = (
    "SELECT DISTINCT key FROM record WHERE key <= ? ORDER BY key DESC LIMIT ?"
)
# An update keeps the row, with the slot's age and whose quota it is on.
_WRITE: Final = (
    "INSERT INTO record (key, kind, owner, expires_at, wire, source) "
    "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key, kind, owner) "
    "DO UPDATE SET expires_at = excluded.expires_at, wire = excluded.wire"
)


# Python cannot even decode SQLite's own complaint when it quotes a damaged file.
_FAULTS: Final = (sqlite3.Error, UnicodeDecodeError)
# Not a database, a damaged one, or (ERROR) one with other tables than ours.
_DAMAGE: Final = frozenset(
    (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR)
)


class Scope(enum.Enum):
    """Among whose records one is to go; the value is the columns's name."""

    GROUP = "source"
    OWNER = "owner"


# Chunks are of no owner, so ``kind <> 3`` lets the index of owners be used.
_EVICT: Final = {
    Scope.GROUP: (
        "DELETE FROM record WHERE kind >= 3 AND source = ? AND key = ? "
        "RETURNING key, coalesce(length(wire), 0), coalesce(CAST(source AS BLOB), x'')"
    ),
    Scope.OWNER: (
        "DELETE FROM record WHERE kind >= 3 AND kind <> 3 AND owner = ? AND key = ? "
        "RETURNING key, coalesce(length(wire), 0), coalesce(CAST(source AS BLOB), x'')"
    ),
}
_UNBOUND_IN: Final = {
    Scope.GROUP: (
        "SELECT key FROM record "
        "WHERE kind >= 3 AND source = ? AND key BETWEEN ? AND ? LIMIT 2"
    ),
    Scope.OWNER: (
        "SELECT key FROM record WHERE kind >= 3 AND kind <> 3 "
        "AND owner = ? AND key BETWEEN ? AND ? LIMIT 2"
    ),
}


class Slot(NamedTuple):
    """The place of one record: at most one is held in each."""

    key: bytes
    kind: int
    owner: bytes


class Gone(NamedTuple):
    """What is left to know of a record that was dropped."""

    key: bytes
    size: int
    group: bytes


class RecordFile:
    """One open SQLite file of records.

    Every method raises StorageError if the disk fails.
    """

    def __init__(self, path: Path | str) -> None:
        """Open or create the file; a corrupt one is set aside with one line.

        Raises:
            StorageError: the file can neither be opened nor set aside.
        """
        # In memory from the first record on: 30 kB that many nodes never need.
        self._database = _open(path) if str(path) != MEMORY else None

    def groups(self) -> dict[bytes, int]:
        """How many records are held of each group that brought some."""
        return dict(self._execute(_GROUPS, ()))

    def size(self) -> int:
        """The bytes of all records together."""
        return sum(size for (size,) in self._execute(_SIZE, ()))

    def bag(self, key: bytes) -> list[tuple[bytes, bytes, int]]:
        """The records under a key: bytes, group, kept until. The oldest slot first."""
        rows: list[tuple[bytes, bytes, int]] = self._execute(_BAG, (bytes(key),))
        return rows

    def keys_after(self, key: bytes, count: int) -> list[StorageKey]:
        """The next keys in numeric order, at most so many."""
        rows = self._execute(_KEYS_AFTER, (bytes(key), count))
        return [StorageKey(found) for (found,) in rows]

    def keys_around(self, place: bytes, count: int) -> list[StorageKey]:
        """At most so many keys on both sides of a place in numeric order.

        Neighbours in number mostly are in XOR distance too. The nearest come first.
        """
        half = count // 2
        rows = self._execute(_KEYS_AFTER, (bytes(place), half))
        rows += self._execute(_KEYS_BEFORE, (bytes(place), half))
        keys = [StorageKey(found) for (found,) in rows]
        return sorted(keys, key=lambda key: distance(key, place))

    def write(self, slot: Slot, *, wire: bytes, kept_until: int, group: bytes) -> None:
        """Fill a slot; one that is filled keeps its age and its group."""
        if self._database is None:
            self._database = _open(MEMORY)
        self._execute(_WRITE, (*slot, kept_until, wire, group))

    def prolong(self, slot: Slot, kept_until: int) -> None:
        """Keep a record longer."""
        self._execute(_PROLONG, (kept_until, *slot))

    def delete(self, slot: Slot) -> list[Gone]:
        """Empty a slot."""
        return self._drop(_DELETE, slot)

    def expire(self, wall_now: int) -> list[Gone]:
        """Drop whatever need not be kept any longer."""
        return self._drop(_EXPIRE, (wall_now,))

    def evict_unbound(self, key: bytes, scope: Scope, member: bytes) -> list[Gone]:
        """Drop the unbound records of a group or owner under a key."""
        return self._drop(_EVICT[scope], (member, key))

    def evict_youngest(self, group: bytes) -> list[Gone]:
        """Drop the bound record of a group that came last."""
        return self._drop(_EVICT_YOUNGEST, (group,))

    def count_of_owner(self, owner: bytes, limit: int) -> int:
        """How many records of an owner are held; counts to the limit."""
        return sum(count for (count,) in self._execute(_COUNT_OF_OWNER, (owner, limit)))

    def unbound_between(
        self, lower: int, upper: int, scope: Scope, member: bytes
    ) -> list[bytes]:
        """The keys of one or two unbound records in a range, ends included."""
        ends = (
            lower.to_bytes(STORAGE_KEY_SIZE, "big"),
            upper.to_bytes(STORAGE_KEY_SIZE, "big"),
        )
        rows = self._execute(_UNBOUND_IN[scope], (member, *ends))
        return [key for (key,) in rows]

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._database is None:
            # What comes later fails, as with a file.
            self._database = sqlite3.connect(MEMORY)
        self._database.close()

    def _drop(self, statement: str, values: tuple[bytes | int, ...]) -> list[Gone]:
        # Any: the columns of a row have the types that the schema gives them.
        rows: list[tuple[Any, ...]] = self._execute(statement, values)
        return [Gone(*row) for row in rows]

    def _execute(
        self, statement: str, values: tuple[bytes | int, ...]
    ) -> list[tuple[Any, ...]]:  # Any: see above
        if self._database is None:
            return []
        try:
            # Any: what sqlite3 itself promises.
            rows: list[tuple[Any, ...]] = self._database.execute(
                statement, values
            ).fetchall()
        except _FAULTS as error:
            raise StorageError(f"the record store: {error}") from error
        return rows


def _open(path: Path | str) -> sqlite3.Connection:
    try:
        return _connect(path)
    except _FAULTS as error:
        if str(path) == MEMORY or not _is_damage(error):
            raise StorageError(_obstacle(Path(path), error)) from error
        aside = _set_aside(Path(path))
        logger.warning(
            "%s is not a record store (%s): set aside as %s, starting empty",
            path,
            error,
            aside.name,
        )
    try:
        return _connect(path)
    except _FAULTS as error:
        raise StorageError(_obstacle(Path(path), error)) from error


def _is_damage(error: Exception) -> bool:
    """Whether the file's content is at fault, not the disk or a permission."""
    # Extended codes stand in the higher bits. A failed check of ours has no code, nor
    # has a text that cannot be decoded.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    return code in _DAMAGE


def _obstacle(path: Path, error: Exception) -> str:
    """What stands in the way of opening a file, in words that say what to do."""
    if path.is_dir():
        return f"the record store {path} is a directory, expected a file"
    if not path.parent.is_dir():
        return f"the record store {path}: there is no directory {path.parent}"
    if not os.access(path.parent, os.W_OK):
        return f"the record store {path}: no right to write in {path.parent}"
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        return f"the record store {path}: no right to read and write it"
    return f"the record store {path} cannot be opened: {error}"


def _connect(path: Path | str) -> sqlite3.Connection:
    # Autocommit: each statement is one transaction. Lost power may lose the last
    # records, which owners put again, but never the file (WAL, synchronous=NORMAL).
    # Nobody else has it open, but a program that makes backups may for a moment.
    database = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=0.5
    )
    try:
        if path == MEMORY:
            # There may be a thousand nodes in one process. With larger pages and the
            # checks of a file, each empty database takes 170 kB, not 30.
            database.execute("PRAGMA page_size = 1024")
            database.executescript(_SCHEMA + _INDEXES)
            return database
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(_SCHEMA)
        _check(database)
        columns = {row[1] for row in database.execute("PRAGMA table_info(record)")}
        if "source" not in columns:
            database.execute(_ADD_SOURCE)
        database.executescript(_INDEXES)
        database.execute(
            "SELECT key, kind, owner, expires_at, wire, source FROM record LIMIT 1"
        )
    except _FAULTS:
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
