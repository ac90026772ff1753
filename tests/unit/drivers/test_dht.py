"""`dht`: joins, finds, stores, repairs, keeps contacts alive, believes nobody."""

import logging
import random

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import RecordNotFound, RequestRefused, StorageError
from opnode.core.ids import Contact, NodeId, claim_key, distance, node_id_of
from opnode.core.records import RecordKind, build_chunk, build_record
from opnode.drivers.dht import DhtConfig
from opnode.protocols.lookup import LookupConfig
from opnode.protocols.rpc.messages import (
    FailureCode,
    FindNode,
    FindValue,
    Nodes,
    Store,
    Stored,
    Values,
    pack_contact,
)
from opnode.testing.dht_nodes import DhtNetwork
from opnode.testing.keys import seeded_signing_key
from opnode.testing.virtual_network import Link

KEY = claim_key("somebody")
NARROW = DhtConfig(lookup=LookupConfig(k=3))


@pytest.fixture
async def network(nursery):
    made = DhtNetwork(nursery, 1, Link(latency_s=(0.01, 0.05)))
    yield made
    made.close()


def claim(network, owner="anna", seq=1, lifetime_s=10_000, size=20):
    return build_record(
        seeded_signing_key(owner),
        kind=RecordKind.CLAIM,
        key=KEY,
        seq=seq,
        expires_at=int(network.wall_clock()) + lifetime_s,
        payload=bytes(size),
    )


def anything(record):
    return True


async def test_joining_makes_neighbours_known_to_each_other(autojump_clock, network):
    await network.grow(8)
    await trio.sleep(1)
    for node in network.nodes:
        known = {contact.node_id for contact in node.dht.contacts()}
        others = {other.rpc.node_id for other in network.nodes if other is not node}
        assert known == others


async def test_joining_through_nobody_alive_gives_no_contacts(autojump_clock, network):
    node = await network.add()
    assert await node.dht.join([Endpoint("10.9.9.9", 1)]) == 0
    assert await node.dht.join([]) == 0


async def test_a_shunned_node_stays_out_of_the_table_though_it_asks_and_answers(
    autojump_clock, network
):
    await network.grow(3)
    node, other = network.nodes[0], network.nodes[2]
    endpoint = other.hub.local
    assert other.contact in node.dht.contacts()
    node.dht.shun(endpoint)
    assert other.contact not in node.dht.contacts()
    await other.dht.closest_nodes(KEY)
    await node.dht.join([endpoint])
    assert other.contact not in node.dht.contacts()
    node.dht.welcome(endpoint)
    await node.dht.join([endpoint])
    assert other.contact in node.dht.contacts()


async def test_a_leaf_knows_others_and_is_in_nobodys_table(autojump_clock, network):
    await network.grow(4)
    leaf = await network.add(leaf=True)
    assert await leaf.dht.join([network.nodes[0].hub.local]) == 4
    await trio.sleep(1)
    for node in network.nodes[:4]:
        assert leaf.contact not in node.dht.contacts()


async def test_closest_nodes_are_the_true_ones(autojump_clock, network):
    await network.grow(60)
    asker = network.nodes[7]
    for number in range(5):
        key = random.Random(number).randbytes(20)
        found = [contact.node_id for contact in await asker.dht.closest_nodes(key)]
        assert found == network.true_closest(key, 20, asker)


async def test_what_was_put_is_found_from_every_other_node(autojump_clock, network):
    await network.grow(30)
    record = claim(network)
    assert await network.nodes[3].dht.put(record) >= 20
    for node in network.nodes:
        assert await node.dht.find_first(KEY, anything) == [record]


async def test_a_seed_alone_holds_its_own_record(autojump_clock, network):
    seed = await network.add()
    record = claim(network)
    assert await seed.dht.put(record) == 1
    assert await seed.dht.find_first(KEY, anything) == [record]
    assert await seed.dht.find_all(KEY) == [record]


async def test_a_leaf_stores_with_others_and_holds_nothing_for_anybody(
    autojump_clock, network
):
    await network.grow(1)
    seed = network.nodes[0]
    leaf = await network.add(leaf=True)
    await leaf.dht.join([seed.hub.local])
    assert await leaf.dht.put(claim(network)) == 1
    assert leaf.store.statistics().records == 0
    with pytest.raises(RequestRefused) as refusal:
        await seed.rpc.request(leaf.hub.local, Store(claim(network).wire))
    assert refusal.value.code == FailureCode.NOT_SERVED


async def test_find_first_returns_before_the_lookup_is_over(autojump_clock, network):
    await network.grow(40)
    record = claim(network)
    await network.nodes[0].dht.put(record)
    node = next(n for n in network.nodes if not n.store.statistics().records)
    started_at = trio.current_time()
    await node.dht.find_first(KEY, anything)
    quick_s = trio.current_time() - started_at
    started_at = trio.current_time()
    await node.dht.closest_nodes(KEY)
    assert quick_s < (trio.current_time() - started_at) / 2
    assert node.rpc.statistics().pending == 0


async def test_find_first_goes_on_until_a_record_is_wanted(autojump_clock, network):
    await network.grow(10)
    await network.nodes[0].dht.put(claim(network, "anna"))
    await network.nodes[1].dht.put(claim(network, "berta"))
    berta = seeded_signing_key("berta").public
    found = await network.nodes[5].dht.find_first(KEY, lambda r: r.owner == berta)
    assert claim(network, "berta").payload in {r.payload for r in found}
    with pytest.raises(RecordNotFound, match="no record"):
        await network.nodes[5].dht.find_first(KEY, lambda r: r.seq == 99)


async def test_a_bag_larger_than_a_datagram_is_read_to_its_end(autojump_clock, network):
    await network.grow(4)
    leaf = await network.add(leaf=True)
    await leaf.dht.join([network.nodes[0].hub.local])
    records = [claim(network, f"owner {n}", size=900) for n in range(10)]
    for record in records:
        await network.nodes[0].dht.put(record)
    last = records[-1].owner
    found = await leaf.dht.find_first(KEY, lambda r: r.owner == last)
    assert records[-1] in found
    assert set(await leaf.dht.find_all(KEY)) == set(records)


async def test_find_all_takes_the_newest_and_repairs_who_is_behind(
    autojump_clock, network
):
    await network.grow(8)
    old, new = claim(network, seq=1), claim(network, seq=2)
    await network.nodes[0].dht.put(old)
    ahead, bare = network.nodes[3], network.nodes[4]
    ahead.store.put_untrusted(new.wire, network.wall_clock())
    bare.store.expire(network.wall_clock() + 20_000)
    reader = network.nodes[5]
    assert await reader.dht.find_all(KEY) == [new]
    assert reader.dht.statistics().repaired == 6
    for node in network.nodes:
        if node is not reader:
            assert node.store.records(KEY, network.wall_clock()) == [new]


async def test_an_older_record_is_refused_by_every_holder_and_the_reason_is_counted(
    autojump_clock, network
):
    await network.grow(6)
    await network.nodes[0].dht.put(claim(network, seq=2))
    assert await network.nodes[1].dht.put(claim(network, seq=1)) == 0
    refusals = dict(network.nodes[1].dht.statistics().refusals)
    assert refusals["StaleRecord"] == 6


async def test_forged_records_from_a_holder_are_not_believed(autojump_clock, network):
    await network.grow(3)
    liar = network.nodes[1]
    forged = claim(network).wire[:-1] + b"\0"
    liar.rpc.serve(FindValue, lambda _: Values((forged,), 1, ()))
    reader = network.nodes[2]
    with pytest.raises(RecordNotFound):
        await reader.dht.find_first(KEY, anything)
    assert reader.dht.statistics().bad_records == 1


async def test_a_node_that_answers_with_another_id_or_kind_counts_as_failed(
    autojump_clock, network
):
    await network.grow(4)
    changed, wrong = network.nodes[1], network.nodes[2]
    changed.rpc.node_id = NodeId(b"z" * 20)
    wrong.rpc.serve(FindNode, lambda _: Stored())
    found = await network.nodes[3].dht.closest_nodes(KEY)
    ids = {contact.endpoint for contact in found}
    assert wrong.hub.local not in ids
    assert changed.hub.local not in ids


async def test_contacts_that_a_far_node_may_not_name_are_not_asked(
    autojump_clock, nursery
):
    network = DhtNetwork(nursery, 1)
    public = "8.8.8.8"
    liar = await network.add(host=public)
    victims = [
        Contact(NodeId(bytes([n]) * 20), Endpoint(host, 53))
        for n, host in enumerate(
            ["127.0.0.1", "192.168.1.1", "9.9.9.9", "2001:4860::8"]
        )
    ]
    honest = Contact(node_id_of(bytes(32), "9.9.9.9"), Endpoint("9.9.9.9", 53))
    named = tuple(pack_contact(contact) for contact in [*victims, honest])
    liar.rpc.serve(FindNode, lambda _: Nodes((*named, bytes(30))))
    asker = await network.add(host="7.7.7.7")
    read = asker.dht._read_contacts_untrusted(liar.hub.local, (*named, bytes(30)))
    assert read == [honest]
    network.close()


async def test_a_third_of_dead_nodes_loses_no_record(autojump_clock, network):
    await network.grow(60)
    record = claim(network)
    await network.nodes[0].dht.put(record)
    for node in network.nodes[1:21]:
        network.kill(node)
    for node in network.nodes[21:31]:
        with trio.fail_after(3):
            assert await node.dht.find_first(KEY, anything) == [record]


async def test_a_dead_contact_leaves_the_table_and_a_silent_live_one_stays(
    autojump_clock, network
):
    config = DhtConfig(silent_s=300)
    one = await network.add(maintained=True, dht_config=config)
    alive, dead = await network.add(), await network.add()
    for node in (alive, dead):
        await one.dht.join([node.hub.local])
    network.kill(dead)
    await trio.sleep(1500)
    assert one.dht.contacts() == [alive.contact]


async def test_an_idle_node_with_twenty_neighbours_stays_below_25_bytes_a_second(
    autojump_clock, network
):
    for _ in range(21):
        node = await network.add(maintained=True)
        if len(network.nodes) > 1:
            await node.dht.join([network.nodes[0].hub.local])
    await trio.sleep(600)
    node = network.nodes[5]
    assert len(node.dht.contacts()) == 20
    before = node.hub.statistics().socket
    await trio.sleep(1800)
    after = node.hub.statistics().socket
    both = after.bytes_in + after.bytes_out - before.bytes_in - before.bytes_out
    assert both / 1800 < 25
    assert len(node.dht.contacts()) == 20


async def test_buckets_without_a_lookup_are_refreshed_after_an_hour(
    autojump_clock, network
):
    node = await network.add(maintained=True)
    other = await network.add()
    await node.dht.join([other.hub.local])
    lookups = node.dht.statistics().lookups
    await trio.sleep(3000)
    assert node.dht.statistics().lookups == lookups
    await trio.sleep(1500)
    assert node.dht.statistics().lookups > lookups


async def test_own_records_are_put_again_where_holders_left_and_dropped_when_over(
    autojump_clock, network
):
    await network.grow(3)
    owner = await network.add(maintained=True)
    await owner.dht.join([network.nodes[0].hub.local])
    record = claim(network, lifetime_s=9000)
    await owner.dht.put(record, republish=True)
    newcomer = await network.add()
    await newcomer.dht.join([network.nodes[0].hub.local])
    assert newcomer.store.statistics().records == 0
    await trio.sleep(5000)
    assert newcomer.store.records(KEY, network.wall_clock()) == [record]
    assert owner.dht.statistics().own_records == 1
    await trio.sleep(5000)
    assert owner.dht.statistics().own_records == 0
    assert owner.store.statistics().records == 0, "expired records are swept"


async def test_own_records_are_bounded(autojump_clock, network):
    node = await network.add(dht_config=DhtConfig(max_own=2))
    for number in range(2):
        chunk = build_chunk(bytes([number]), int(network.wall_clock()) + 99)
        await node.dht.put(chunk, republish=True)
    await node.dht.put(chunk, republish=True)
    with pytest.raises(StorageError, match="limit"):
        await node.dht.put(claim(network), republish=True)


async def test_only_the_closest_servers_hold_their_own_put(autojump_clock, network):
    for _ in range(12):
        node = await network.add(dht_config=NARROW)
        await node.dht.join([network.nodes[0].hub.local])
    record = claim(network)
    ranked = sorted(network.nodes, key=lambda n: distance(n.rpc.node_id, KEY))
    assert await ranked[0].dht.put(record) == 4
    assert ranked[0].store.statistics().records == 1
    assert await ranked[-1].dht.put(record) == 3
    assert ranked[-1].store.statistics().records == 0


async def test_a_refusal_of_our_own_store_is_counted_not_raised(
    autojump_clock, network
):
    node = await network.add()
    await node.dht.put(claim(network, seq=2))
    assert await node.dht.put(claim(network, seq=1)) == 0
    assert dict(node.dht.statistics().refusals) == {"StaleRecord": 1}


async def test_a_disk_that_fails_is_reported_once_and_the_node_goes_on(
    autojump_clock, network, caplog
):
    await network.grow(3)
    config = DhtConfig(expire_s=10)
    node = await network.add(maintained=True, dht_config=config)
    await node.dht.join([network.nodes[0].hub.local])
    record = claim(network, lifetime_s=5000)
    await node.dht.put(record, republish=True)
    node.store.close()
    with caplog.at_level(logging.WARNING):
        await trio.sleep(4000)
    assert len(caplog.records) == 1
    assert "no records can be held" in caplog.text
    assert await network.nodes[1].dht.find_first(KEY, anything) == [record]
    asked = node.hub.local
    other = FindValue(claim_key("somebody else"))
    assert (await network.nodes[1].rpc.request(asked, other)).body.total == 0
    with pytest.raises(RecordNotFound):
        await node.dht.find_first(other.key, anything)
    assert await node.dht.find_all(other.key) == []


async def test_adopting_another_id_keeps_the_contacts(autojump_clock, network):
    await network.grow(5)
    node = network.nodes[2]
    before = set(node.dht.contacts())
    node.dht.adopt_node_id(NodeId(b"n" * 20))
    node.dht.adopt_node_id(NodeId(b"n" * 20))
    assert node.rpc.node_id == b"n" * 20
    assert set(node.dht.contacts()) == before
