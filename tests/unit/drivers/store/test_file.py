"""`file`: damage is survived, and an acknowledged record outlives the process."""

import logging
import sqlite3

import pytest

from opnode.core.errors import (
    StorageError,
)
from opnode.core.ids import claim_key, peer_key
from opnode.core.peerfile import (
    Identity,
    build_presence,
    certify_location,
)
from opnode.core.records import RecordKind, build_record
from opnode.drivers.store import RecordStore
from opnode.testing.keys import seeded_signing_key, seeded_static_key

NOW = 1_000_000.0
KEY = claim_key("somebody")


IDENTITY = Identity(seeded_signing_key("identity"))
PEER_KEY = peer_key(IDENTITY.peer_id)


def presence(name, seq=1):
    location = certify_location(
        IDENTITY,
        signing=seeded_signing_key(f"location {name}"),
        static=seeded_static_key(name),
        name=name,
        wall_now=NOW,
        lifetime_s=10_000,
    )
    return build_presence(location, (), wall_now=NOW, lifetime_s=600, seq=seq)


def squatter(number):
    return build_record(
        seeded_signing_key(f"squatter {number}"),
        kind=RecordKind.CLAIM,
        key=PEER_KEY,
        seq=1,
        expires_at=int(NOW) + 700,
        payload=b"",
    )


def claim(owner="anna", seq=1, lifetime_s=100, payload=b"claim", name="somebody"):
    return build_record(
        seeded_signing_key(owner),
        kind=RecordKind.CLAIM,
        key=claim_key(name),
        seq=seq,
        expires_at=int(NOW) + lifetime_s,
        payload=payload,
    )


@pytest.fixture
def store():
    opened = RecordStore()
    yield opened
    opened.close()


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
