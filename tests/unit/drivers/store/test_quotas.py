"""`quotas`: nobody pushes others out; what is worth least leaves first."""

import contextlib

import pytest

from opnode.core.ids import NodeId, claim_key, distance
from opnode.core.peerfile import (
    Identity,
    build_peer_file,
)
from opnode.core.records import RecordKind, build_chunk, build_record
from opnode.drivers.store import BagFull, RecordStore, StoreConfig, StoreFull
from opnode.testing.keys import seeded_signing_key
from tests.unit.drivers.store.samples import (
    IDENTITY,
    KEY,
    NOW,
    PEER_KEY,
    claim,
    presence,
    squatter,
)


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


def peer_file(name):
    identity = Identity(seeded_signing_key(name))
    return build_peer_file(identity, wall_now=NOW, seq=1)


def fill(store, records, host):
    for record in records:
        with contextlib.suppress(StoreFull):
            store.put_untrusted(record.wire, NOW, host)


def test_who_brought_the_most_makes_room_for_who_brought_less():
    store = RecordStore(config=StoreConfig(max_records=20))
    honest = [peer_file(f"honest {number}") for number in range(5)]
    fill(store, honest, "9.9.9.9")
    flood = [peer_file(f"flood {number}") for number in range(40)]
    fill(store, flood, "8.8.8.8")
    assert store.statistics().records == 20
    assert held_of(store, honest) == honest
    late = [peer_file(f"late {number}") for number in range(15)]
    fill(store, late, "7.7.7.7")
    assert held_of(store, honest) == honest
    # Fifteen places are shared by two, to within the one that would only swap.
    assert len(held_of(store, late)) == 7
    assert held_of(store, flood) == flood[:8], "its youngest went"
    assert store.statistics().records == 20
    store.close()


def test_a_hundred_networks_together_do_not_push_out_who_brought_little():
    store = RecordStore(config=StoreConfig(max_records=200))
    honest = [peer_file("anna"), peer_file("berta"), chunk(1)]
    for number, record in enumerate(honest):
        store.put_untrusted(record.wire, NOW, f"9.9.{number}.9")
    for number in range(400):
        wire = peer_file(f"flood {number}").wire
        with contextlib.suppress(StoreFull):
            store.put_untrusted(wire, NOW, f"8.8.{number % 50}.8")
    assert store.statistics().records == 200
    assert held_of(store, honest) == honest
    newcomer = peer_file("carla")
    store.put_untrusted(newcomer.wire, NOW, "9.9.77.1")
    assert held_of(store, [*honest, newcomer]) == [*honest, newcomer]
    store.close()


def test_among_equals_only_what_is_worth_more_comes_in():
    store = RecordStore(config=StoreConfig(max_records=4))
    chunks = farthest_first([chunk(number) for number in range(6)], store.near)
    for number, one in enumerate(chunks[1:5]):
        store.put_untrusted(one.wire, NOW, f"9.9.{number}.9")
    with pytest.raises(StoreFull, match="that is the limit"):
        store.put_untrusted(chunks[0].wire, NOW, "8.8.8.8")
    store.put_untrusted(chunks[5].wire, NOW, "8.8.8.8")
    store.put_untrusted(peer_file("anna").wire, NOW, "7.7.7.7")
    assert store.statistics().records == 4
    bound = [peer_file(f"{number}") for number in range(6)]
    full = RecordStore(config=StoreConfig(max_records=4))
    for number, one in enumerate(bound[:4]):
        full.put_untrusted(one.wire, NOW, f"9.9.{number}.9")
    with pytest.raises(StoreFull):
        full.put_untrusted(bound[5].wire, NOW, "8.8.8.8")
    assert held_of(full, bound) == bound[:4]
    full.close()
    store.close()


def test_nobody_pushes_out_what_the_node_put_itself():
    store = RecordStore(config=StoreConfig(max_records=10))
    own = [peer_file(f"own {number}") for number in range(8)]
    fill(store, own, None)
    fill(store, [peer_file(f"theirs {number}") for number in range(20)], "8.8.8.8")
    assert held_of(store, own) == own
    more = [peer_file(f"more {number}") for number in range(4)]
    fill(store, more, None)
    assert len(held_of(store, more)) == 1, "the last of theirs is left alone"
    store.close()


def owned(number, lifetime_s=100):
    return build_record(
        seeded_signing_key("anna"),
        kind=RecordKind.CLAIM,
        key=claim_key(f"name {number}"),
        seq=1,
        expires_at=int(NOW) + lifetime_s,
        payload=b"",
    )


def test_one_owner_key_has_a_number_of_records_wherever_they_come_from(tmp_path):
    path = tmp_path / "records.sqlite3"
    config = StoreConfig(owner_records=5)
    store = RecordStore(path, config=config)
    records = farthest_first([owned(number) for number in range(9)], store.near)
    for number, record in enumerate(records[2:7]):
        store.put_untrusted(record.wire, NOW, f"9.9.{number}.9")
    store.close()
    store = RecordStore(path, config=config)
    with pytest.raises(StoreFull, match=r"5 records of owner \w+ are held"):
        store.put_untrusted(records[0].wire, NOW, "7.7.7.7")
    store.put_untrusted(records[8].wire, NOW, "7.7.7.7")
    assert held_of(store, records) == [*records[3:7], records[8]]
    store.put_untrusted(chunk(1).wire, NOW, "7.7.7.7")
    store.put_untrusted(claim("berta").wire, NOW, "7.7.7.7")
    assert store.statistics().records == 7
    store.close()


def test_one_network_does_not_fill_a_bag_for_the_others(store):
    squatters = [squatter(number) for number in range(16)]
    for record in squatters:
        store.put_untrusted(record.wire, NOW, "8.8.8.8")
    honest = squatter("honest")
    store.put_untrusted(honest.wire, NOW, "9.9.9.9")
    assert store.records(PEER_KEY, NOW) == [*squatters[:15], honest]
    with pytest.raises(BagFull):
        store.put_untrusted(squatters[15].wire, NOW, "8.8.8.8")
    for number in range(40):
        with contextlib.suppress(BagFull):
            wire = squatter(f"other {number}").wire
            store.put_untrusted(wire, NOW, f"7.7.{number % 4}.7")
    assert honest in store.records(PEER_KEY, NOW)
    assert store.statistics().records == 16
