"""`quotas`: nobody pushes others out; what is worth least leaves first."""

import contextlib

import pytest

from opnode.core.ids import NodeId, claim_key, distance, peer_key
from opnode.core.peerfile import (
    Identity,
    build_peer_file,
    build_presence,
    certify_location,
)
from opnode.core.records import RecordKind, build_chunk, build_record
from opnode.drivers.store import RecordStore, StoreConfig, StoreFull
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
