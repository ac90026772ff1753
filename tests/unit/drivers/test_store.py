"""`store`: only verified records enter, bags keep their oldest, damage is survived."""

import contextlib
import logging
import sqlite3

import pytest

from opnode.core.errors import (
    BadSignature,
    EquivocatingRecord,
    ExpiredRecord,
    MalformedRecord,
    StaleRecord,
    StorageError,
)
from opnode.core.ids import NodeId, claim_key, distance, peer_key
from opnode.core.peerfile import (
    Identity,
    build_peer_file,
    build_presence,
    certify_location,
)
from opnode.core.records import RecordKind, build_chunk, build_record
from opnode.drivers.store import BagFull, RecordStore, StoreConfig, StoreFull
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


def test_a_verified_record_is_held_and_found(store):
    record = claim()
    assert store.put_untrusted(record.wire, NOW) == record
    assert store.records(KEY, NOW) == [record]
    assert store.statistics().records == 1
    assert store.statistics().bytes == len(record.wire)
    assert store.records(claim_key("nobody"), NOW) == []


def test_the_same_bytes_again_change_nothing(store):
    for _ in range(3):
        store.put_untrusted(claim().wire, NOW)
    assert store.statistics().records == 1


def test_a_higher_sequence_number_replaces_in_its_slot(store):
    store.put_untrusted(claim(seq=1).wire, NOW)
    store.put_untrusted(claim("berta").wire, NOW)
    newer = claim(seq=2, payload=b"longer payload")
    store.put_untrusted(newer.wire, NOW)
    assert store.records(KEY, NOW) == [newer, claim("berta")]
    held = len(newer.wire) + len(claim("berta").wire)
    assert store.statistics().bytes == held


@pytest.mark.parametrize(
    ("wire", "error"),
    [
        (claim(seq=1).wire, StaleRecord),
        (claim(seq=2, payload=b"other").wire, EquivocatingRecord),
        (claim(lifetime_s=0).wire, ExpiredRecord),
        (claim(seq=3).wire[:-1] + b"\0", BadSignature),
        (claim(seq=3).wire[:-1], MalformedRecord),
        (b"", MalformedRecord),
        (b"x" * 500, MalformedRecord),
    ],
)
def test_what_does_not_verify_or_is_older_is_refused_by_name(store, wire, error):
    held = claim(seq=2)
    store.put_untrusted(held.wire, NOW)
    with pytest.raises(error):
        store.put_untrusted(wire, NOW)
    assert store.records(KEY, NOW) == [held]
    assert store.statistics().records == 1


def test_a_full_bag_keeps_the_oldest_sixteen_and_still_takes_their_updates(store):
    first = [claim(f"owner {number}") for number in range(16)]
    for record in first:
        store.put_untrusted(record.wire, NOW)
    with pytest.raises(BagFull):
        store.put_untrusted(claim("latecomer").wire, NOW)
    assert store.records(KEY, NOW) == first
    update = claim("owner 3", seq=2)
    store.put_untrusted(update.wire, NOW)
    assert update in store.records(KEY, NOW)


def test_claims_take_no_slot_from_the_peer_whose_key_they_are_under(tmp_path):
    path = tmp_path / "records.sqlite3"
    store = RecordStore(path)
    squatters = [squatter(number) for number in range(16)]
    for record in squatters:
        store.put_untrusted(record.wire, NOW)
    own = [build_peer_file(IDENTITY, wall_now=NOW, seq=1)]
    own += [presence(f"location {number}") for number in range(16)]
    for record in reversed(own):
        store.put_untrusted(record.wire, NOW)
    expected = [own[0], *reversed(own[1:]), *squatters]
    assert store.records(PEER_KEY, NOW) == expected
    for record in (squatter(16), presence("seventeenth")):
        with pytest.raises(BagFull):
            store.put_untrusted(record.wire, NOW)
    store.close()
    again = RecordStore(path)
    assert again.records(PEER_KEY, NOW) == expected
    again.close()


def test_an_expired_slot_makes_room_before_anybody_swept(store):
    store.put_untrusted(claim("short", lifetime_s=10).wire, NOW)
    for number in range(15):
        store.put_untrusted(claim(f"owner {number}").wire, NOW)
    late = claim("latecomer")
    store.put_untrusted(late.wire, NOW + 20)
    assert late in store.records(KEY, NOW + 20)
    assert store.statistics().records == 16


def chunk(number, lifetime_s=100_000):
    return build_chunk(b"%09d" % number, int(NOW) + lifetime_s)


def farthest_first(chunks, near):
    return sorted(chunks, key=lambda c: distance(c.key, near), reverse=True)


def held_of(store, records, now=NOW):
    return [r for r in records if store.records(r.key, now)]


SMALL = StoreConfig(max_records=20, group_records=8, local_group_records=12)


def test_one_network_cannot_take_the_places_of_the_others():
    store = RecordStore(config=SMALL)
    for number in range(500):
        with contextlib.suppress(StoreFull):
            store.put_untrusted(chunk(number).wire, NOW, f"8.8.8.{number % 250}")
    assert store.statistics().records == 8
    for number in range(500, 600):
        with contextlib.suppress(StoreFull):
            store.put_untrusted(chunk(number).wire, NOW, "192.168.1.7")
    assert store.statistics().records == 20
    for number in range(5):
        store.put_untrusted(presence(f"location {number}").wire, NOW, "9.9.9.9")
    assert len(store.records(PEER_KEY, NOW)) == 5
    assert store.statistics().records == 20
    store.close()


def test_a_network_at_its_limit_still_brings_a_peers_own_records():
    store = RecordStore(config=SMALL)
    chunks = [chunk(number) for number in range(8)]
    for one in chunks:
        store.put_untrusted(one.wire, NOW, "8.8.8.8")
    store.put_untrusted(presence("x").wire, NOW, "8.8.8.9")
    assert store.statistics().records == 8
    gone = farthest_first(chunks, store.near)[0]
    assert set(held_of(store, chunks)) == set(chunks) - {gone}
    store.close()


def test_a_network_full_of_bound_records_is_refused_and_freed_by_expiry(tmp_path):
    config = StoreConfig(group_records=3)
    path = tmp_path / "records.sqlite3"
    store = RecordStore(path, config=config)
    for number in range(3):
        store.put_untrusted(presence(f"{number}").wire, NOW, "8.8.8.8")
    store.close()
    store = RecordStore(path, config=config)
    with pytest.raises(StoreFull, match="your network"):
        store.put_untrusted(presence("late").wire, NOW, "8.8.8.1")
    store.put_untrusted(presence("1", seq=2).wire, NOW, "8.8.8.1")
    store.put_untrusted(presence("late").wire, NOW, "8.8.9.1")
    store.put_untrusted(presence("ours").wire, NOW)
    store.expire(NOW + 1000)
    again = build_peer_file(IDENTITY, wall_now=NOW, seq=1)
    store.put_untrusted(again.wire, NOW + 1000, "8.8.8.1")
    store.close()


@pytest.mark.parametrize("near", [bytes(20), b"\xff" * 20, chunk(3).key])
def test_a_full_store_keeps_the_unbound_records_nearest_to_the_node(near):
    store = RecordStore(config=StoreConfig(max_records=20))
    store.near = NodeId(near)
    chunks = [chunk(number) for number in range(200)]
    for one in chunks:
        with contextlib.suppress(StoreFull):
            store.put_untrusted(one.wire, NOW)
    kept = farthest_first(chunks, near)[-20:]
    assert set(held_of(store, chunks)) == set(kept)
    store.close()


def test_claims_of_one_name_leave_together_when_room_is_needed():
    store = RecordStore(config=StoreConfig(max_records=3))
    for owner in ("anna", "berta", "carla"):
        store.put_untrusted(claim(owner).wire, NOW)
    with pytest.raises(StoreFull):
        store.put_untrusted(claim("dora").wire, NOW)
    store.put_untrusted(presence("x").wire, NOW)
    assert store.records(KEY, NOW) == []
    assert store.statistics().records == 1
    store.close()


def test_a_claim_that_made_room_under_the_same_key_is_not_answered_any_more():
    store = RecordStore(config=StoreConfig(max_records=1))
    store.put_untrusted(squatter(1).wire, NOW)
    own = presence("x")
    store.put_untrusted(own.wire, NOW)
    assert store.records(PEER_KEY, NOW) == [own]
    store.close()


def test_what_anybody_can_make_is_kept_for_a_day_after_it_was_last_brought(store):
    day = 86_400
    lasting = [chunk(1, 90 * day), claim(lifetime_s=90 * day)]
    brought_again = chunk(2, 90 * day)
    own = build_peer_file(IDENTITY, wall_now=NOW, seq=1)
    for record in (*lasting, brought_again, own):
        assert store.put_untrusted(record.wire, NOW) == record
    store.put_untrusted(brought_again.wire, NOW + day / 2)
    assert store.expire(NOW + day - 1) == 0
    assert store.expire(NOW + day) == 2
    assert held_of(store, lasting, NOW + day) == []
    assert held_of(store, [brought_again, own], NOW + day) == [brought_again, own]
    assert store.expire(NOW + 1.5 * day) == 1


def test_a_file_from_before_quotas_keeps_its_records(tmp_path):
    path = tmp_path / "records.sqlite3"
    store = RecordStore(path)
    store.put_untrusted(claim().wire, NOW)
    store.close()
    with sqlite3.connect(path) as database:
        database.execute("DROP INDEX unbound_by_source")
        database.execute("ALTER TABLE record DROP COLUMN source")
    database.close()
    store = RecordStore(path)
    assert store.records(KEY, NOW) == [claim()]
    store.put_untrusted(claim("berta").wire, NOW, "8.8.8.8")
    assert store.expire(NOW + 100) == 2
    store.close()


def test_the_number_and_the_bytes_of_all_records_are_bounded():
    chunks = [build_chunk(bytes([n]) * 100, int(NOW) + 100) for n in range(4)]
    chunks.sort(key=lambda c: c.key)
    by_number = RecordStore(config=StoreConfig(max_records=3))
    by_bytes = RecordStore(config=StoreConfig(max_bytes=3 * len(chunks[0].wire)))
    for store in (by_number, by_bytes):
        for chunk in chunks[:3]:
            store.put_untrusted(chunk.wire, NOW)
        with pytest.raises(StoreFull):
            store.put_untrusted(chunks[3].wire, NOW)
        assert store.statistics().records == 3
        store.close()


def test_expiry_hides_at_once_and_frees_when_swept(store):
    store.put_untrusted(claim(lifetime_s=10).wire, NOW)
    store.put_untrusted(claim("berta", lifetime_s=50).wire, NOW)
    assert store.records(KEY, NOW + 10) == [claim("berta", lifetime_s=50)]
    assert store.statistics().records == 2
    assert store.expire(NOW + 10) == 1
    assert store.statistics().records == 1
    assert store.records(KEY, NOW + 10) == [claim("berta", lifetime_s=50)]


def test_bags_beyond_the_mirror_are_read_from_the_file_in_the_same_order():
    store = RecordStore(config=StoreConfig(mirrored_keys=1))
    bag = [claim("berta"), claim("anna")]
    for record in bag:
        store.put_untrusted(record.wire, NOW)
    store.put_untrusted(claim(name="other").wire, NOW)
    store.put_untrusted(claim("berta", seq=2).wire, NOW)
    store.put_untrusted(claim(name="other", seq=2).wire, NOW)
    assert store.records(KEY, NOW) == [claim("berta", seq=2), claim("anna")]
    store.close()


def test_records_survive_a_restart(tmp_path):
    path = tmp_path / "records.sqlite3"
    store = RecordStore(path)
    store.put_untrusted(claim().wire, NOW)
    store.close()
    store.close()
    again = RecordStore(path)
    assert again.records(KEY, NOW) == [claim()]
    assert again.statistics().bytes == len(claim().wire)
    again.close()


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
