"""`file`: damage is survived, and an acknowledged record outlives the process."""

import contextlib
import logging
import shutil
import sqlite3

import pytest

from opnode.core.errors import EquivocatingRecord, StorageError
from opnode.drivers.store import RecordStore
from tests.unit.drivers.store.samples import (
    KEY,
    NOW,
    claim,
)


def test_a_file_from_before_quotas_keeps_its_records(tmp_path):
    path = tmp_path / "records.sqlite3"
    store = RecordStore(path)
    store.put_untrusted(claim().wire, NOW)
    store.close()
    with sqlite3.connect(path) as database:
        database.execute("DROP INDEX unbound_by_source")
        database.execute("DROP INDEX bound_by_source")
        database.execute("CREATE INDEX unbound_by_key ON record (key) WHERE kind >= 3")
        database.execute("ALTER TABLE record DROP COLUMN source")
    database.close()
    store = RecordStore(path)
    assert store.records(KEY, NOW) == [claim()]
    store.put_untrusted(claim("berta").wire, NOW, "8.8.8.8")
    assert store.expire(NOW + 100) == 2
    store.close()


@pytest.mark.parametrize(
    "content", [b"not a database" * 100, b"SQLite format 3\0" + b"x" * 5000]
)
def test_a_corrupt_file_is_set_aside_with_one_line(tmp_path, caplog, content):
    path = tmp_path / "records.sqlite3"
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        store = RecordStore(path)
    store.put_untrusted(claim().wire, NOW)
    store.close()
    assert len(caplog.records) == 1
    assert "set aside as records.sqlite3.corrupt-1" in caplog.text
    assert (tmp_path / "records.sqlite3.corrupt-1").read_bytes() == content
    path.write_bytes(content)
    RecordStore(path).close()
    assert (tmp_path / "records.sqlite3.corrupt-2").exists()


def test_a_file_of_another_program_is_set_aside(tmp_path):
    path = tmp_path / "records.sqlite3"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE record (something INTEGER)")
    database.close()
    RecordStore(path).close()
    assert (tmp_path / "records.sqlite3.corrupt-1").exists()


def test_a_half_written_file_keeps_working(tmp_path):
    path = tmp_path / "records.sqlite3"
    store = RecordStore(path)
    for number in range(50):
        store.put_untrusted(claim(f"owner {number}", name=f"name {number}").wire, NOW)
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    store = RecordStore(path)
    store.put_untrusted(claim().wire, NOW)
    assert store.records(KEY, NOW) == [claim()]
    store.close()


def test_a_damaged_row_is_ignored_with_a_line(tmp_path, caplog):
    path = tmp_path / "records.sqlite3"
    store = RecordStore(path)
    store.put_untrusted(claim().wire, NOW)
    store.put_untrusted(claim("berta").wire, NOW)
    store.close()
    with sqlite3.connect(path) as database:
        database.execute(
            "UPDATE record SET wire = x'00' WHERE owner = ?", (claim().owner,)
        )
    database.close()
    store = RecordStore(path)
    assert store.records(KEY, NOW) == [claim("berta")]
    assert "damaged" in caplog.text
    store.close()


def test_a_place_that_cannot_hold_a_file_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError):
        RecordStore(tmp_path / "missing" / "records.sqlite3")


def test_a_disk_that_fails_later_is_a_storage_error(store):
    store.close()
    with pytest.raises(StorageError):
        store.put_untrusted(claim().wire, NOW)


@pytest.fixture
def killed(tmp_path):
    """The files of a store whose process was killed, and what it had acknowledged."""
    running = tmp_path / "running"
    running.mkdir()
    store = RecordStore(running / "records.sqlite3")
    records = [claim(name=f"name {number}") for number in range(200)]
    for record in records:
        store.put_untrusted(record.wire, NOW)
    directory = tmp_path / "killed"
    shutil.copytree(running, directory)
    store.close()
    return directory / "records.sqlite3", records


def held(store, records):
    return [record for record in records if store.records(record.key, NOW)]


def test_a_killed_process_loses_nothing_that_was_acknowledged(killed):
    path, records = killed
    assert path.with_name("records.sqlite3-wal").stat().st_size > 0
    store = RecordStore(path)
    assert held(store, records) == records
    assert store.statistics().records == len(records)
    store.close()


def _truncate(wal):
    wal.write_bytes(wal.read_bytes()[: wal.stat().st_size // 2 + 7])


def _zero(wal):
    wal.write_bytes(bytes(wal.stat().st_size))


def _zero_the_end(wal):
    half = wal.stat().st_size // 2
    wal.write_bytes(wal.read_bytes()[:half] + bytes(half))


def _scribble(wal):
    wal.write_bytes(b"not a journal " * 5000)


def _delete(wal):
    wal.unlink()


@pytest.mark.parametrize(
    "damage", [_truncate, _zero, _zero_the_end, _scribble, _delete]
)
def test_a_damaged_journal_costs_its_end_and_not_the_start(killed, damage):
    path, records = killed
    damage(path.with_name("records.sqlite3-wal"))
    store = RecordStore(path)
    left = held(store, records)
    assert left == records[: len(left)], "whole records, up to the damage"
    if damage in (_truncate, _zero_the_end):
        assert left
    store.put_untrusted(claim("berta").wire, NOW)
    assert store.statistics().records == len(left) + 1
    store.close()
    again = RecordStore(path)
    assert held(again, records) == left
    again.close()


@pytest.mark.parametrize("content", [b"", b"rubbish" * 5000])
def test_a_damaged_index_of_the_journal_is_built_anew(killed, content):
    path, records = killed
    path.with_name("records.sqlite3-shm").write_bytes(content)
    store = RecordStore(path)
    assert held(store, records) == records
    store.close()


def test_a_journal_without_its_file_is_an_empty_store(killed):
    path, records = killed
    path.unlink()
    store = RecordStore(path)
    assert held(store, records) == []
    store.put_untrusted(records[0].wire, NOW)
    store.close()


def test_a_directory_in_the_place_of_the_file_is_named_and_left_alone(tmp_path):
    path = tmp_path / "records.sqlite3"
    path.mkdir()
    (path / "something").touch()
    with pytest.raises(StorageError, match="is a directory, expected a file"):
        RecordStore(path)
    assert (path / "something").exists()


def test_a_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StorageError, match="there is no directory"):
        RecordStore(tmp_path / "missing" / "records.sqlite3")


def test_a_place_where_nothing_can_be_created_is_named():
    # Not even root creates a file here.
    with pytest.raises(StorageError, match=r"record store /proc/opnode\.sqlite3"):
        RecordStore("/proc/opnode.sqlite3")


def test_a_file_in_use_by_another_program_is_not_taken_for_a_damaged_one(tmp_path):
    path = tmp_path / "records.sqlite3"
    RecordStore(path).close()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageError, match="locked"):
            RecordStore(path)
    assert [p.name for p in tmp_path.iterdir()] == ["records.sqlite3"]
    RecordStore(path).close()


def test_a_schema_that_is_no_text_any_more_is_set_aside(tmp_path, caplog):
    path = tmp_path / "records.sqlite3"
    RecordStore(path).close()
    content = path.read_bytes()
    assert b"tablerecordrecord" in content
    path.write_bytes(content.replace(b"tablerecordrecord", b"table" + b"\x91" * 12))
    store = RecordStore(path)
    store.put_untrusted(claim().wire, NOW)
    store.close()
    assert (tmp_path / "records.sqlite3.corrupt-1").exists()
    assert len(caplog.records) == 1


@pytest.mark.parametrize("value", ["'text'", "7", "1.5", "zeroblob(3)"])
@pytest.mark.parametrize("column", ["wire", "source", "expires_at"])
def test_a_row_with_values_of_other_types_does_no_harm(tmp_path, column, value):
    path = tmp_path / "records.sqlite3"
    store = RecordStore(path)
    for owner in ("anna", "berta"):
        store.put_untrusted(claim(owner).wire, NOW, "8.8.8.8")
    store.close()
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(
            f"UPDATE record SET {column} = {value} WHERE owner = ?",  # noqa: S608 - ours
            (claim().owner,),
        )
    store = RecordStore(path)
    assert claim("berta") in store.records(KEY, NOW)
    store.put_untrusted(claim("carla").wire, NOW, "8.8.8.8")
    assert store.keys_after(b"", 9) == [KEY]
    store.expire(NOW + 10**6)
    store.put_untrusted(claim("dora", lifetime_s=10**7).wire, NOW + 10**6, "8.8.8.8")
    store.close()


def test_a_record_whose_key_the_disk_spoilt_is_none_of_its_bag(tmp_path):
    path = tmp_path / "records.sqlite3"
    store = RecordStore(path)
    good = claim()
    store.put_untrusted(good.wire, NOW)
    store.close()
    spoilt = good.wire.replace(KEY, bytes(20))
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE record SET wire = ?", (spoilt,))
    store = RecordStore(path)
    assert store.records(KEY, NOW) == []
    store.put_untrusted(claim(payload=b"other").wire, NOW)
    assert store.records(KEY, NOW) == [claim(payload=b"other")]
    store.close()


def test_a_record_that_the_disk_spoilt_gives_its_slot_to_a_good_copy(tmp_path):
    path = tmp_path / "records.sqlite3"
    store = RecordStore(path)
    good = claim()
    for record in (good, claim("berta")):
        store.put_untrusted(record.wire, NOW)
    store.close()
    spoilt = good.wire.replace(b"claim", b"clown")
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "UPDATE record SET wire = ? WHERE owner = ?", (spoilt, good.owner)
        )
    store = RecordStore(path)
    store.put_untrusted(good.wire, NOW)
    assert set(store.records(KEY, NOW)) == {good, claim("berta")}
    with pytest.raises(EquivocatingRecord):
        store.put_untrusted(claim(payload=b"other").wire, NOW)
    assert store.statistics().records == 2
    store.close()
