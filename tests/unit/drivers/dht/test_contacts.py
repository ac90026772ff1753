"""`contacts`: who is met, checked, kept alive and kept out."""

import random

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.core.ids import Contact, NodeId, node_id_of
from opnode.protocols.rpc.datagrams import Sender, encode_request
from opnode.protocols.rpc.messages import (
    MAIN_NETWORK,
    Delegate,
    FindNode,
    Nodes,
    Ping,
    pack_contact,
)
from opnode.testing.dht_nodes import DhtNetwork
from opnode.testing.flooding import flood_forged, flood_fresh
from tests.unit.drivers.dht.samples import KEY


async def test_a_shunned_node_stays_out_of_the_table_though_it_asks_and_answers(
    autojump_clock, network
):
    await network.grow(3)
    await trio.sleep(1)
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


async def test_a_leaf_that_knows_a_small_network_looks_for_others_as_rarely_as_any(
    autojump_clock, network
):
    await network.grow(6)
    leaf = await network.add(leaf=True)
    await leaf.dht.join([network.nodes[0].hub.local])
    network.maintain()
    await trio.sleep(4 * 3600)
    (line,) = [t for t in leaf.rpc.statistics().traffic if t.message == "FIND_NODE"]
    before = line.datagrams_out
    await trio.sleep(2 * 3600 - 60)
    (line,) = [t for t in leaf.rpc.statistics().traffic if t.message == "FIND_NODE"]
    assert line.datagrams_out == before


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
    read = asker.dht._contacts.read_untrusted(liar.hub.local, (*named, bytes(30)))
    assert read == [honest]
    network.close()


async def test_a_dead_contact_leaves_the_table_and_a_silent_live_one_stays(
    autojump_clock, network
):
    one = await network.add(maintained=True)
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


async def test_adopting_another_id_keeps_the_contacts(autojump_clock, network):
    await network.grow(5)
    node = network.nodes[2]
    before = set(node.dht.contacts())
    node.dht.adopt_node_id(NodeId(b"n" * 20))
    node.dht.adopt_node_id(NodeId(b"n" * 20))
    assert node.rpc.node_id == b"n" * 20
    assert set(node.dht.contacts()) == before


async def test_a_fresh_node_knows_the_size_of_the_network_from_its_join(
    autojump_clock, network
):
    await network.grow(60)
    node = network.nodes[-1]
    size = node.dht.statistics().network_size
    assert size is not None
    assert 25 < size < 140
    for number in range(8):
        await node.dht.closest_nodes(random.Random(number).randbytes(20))
    assert 45 < node.dht.statistics().network_size < 90
    assert node.dht._contacts.radius(20) is not None


async def test_a_lookup_into_a_crowd_of_ids_raises_the_alarm_for_an_hour(
    autojump_clock, network
):
    await network.grow(60)
    node = network.nodes[3]
    for number in range(8):
        await node.dht.closest_nodes(random.Random(number).randbytes(20))
    assert node.dht.statistics().alarm is None
    for number in range(1, 21):
        sybil = await network.add()
        sybil.dht.adopt_node_id(NodeId(KEY[:-1] + bytes([KEY[-1] ^ number])))
        await sybil.dht.join([network.nodes[0].hub.local])
    await node.dht.closest_nodes(KEY)
    assert "20 nodes" in node.dht.statistics().alarm
    await trio.sleep(3599)
    assert node.dht.statistics().alarm is not None
    await trio.sleep(2)
    assert node.dht.statistics().alarm is None


@pytest.mark.parametrize("for_records", [False, True])
async def test_whoever_has_a_crowd_looked_up_does_not_make_the_network_seem_large(
    autojump_clock, network, for_records
):
    await network.grow(60)
    server = await network.add(maintained=True)
    await server.dht.join([network.nodes[0].hub.local])
    for number in range(4):
        await server.dht.closest_nodes(random.Random(number).randbytes(20))
    before = server.dht.statistics().network_size
    for number in range(1, 21):
        sybil = await network.add()
        sybil.dht.adopt_node_id(NodeId(KEY[:-1] + bytes([KEY[-1] ^ number])))
        await sybil.dht.join([network.nodes[0].hub.local])
    for number in range(32):
        key = KEY[:-1] + bytes([KEY[-1] ^ 0x80 ^ number])
        body = Delegate(key, for_records)
        await network.nodes[1].rpc.request(server.hub.local, body)
        await trio.sleep(1)
    assert server.dht.statistics().lookups_for_others == 32
    assert server.dht.statistics().network_size < 2 * before
    assert server.dht.statistics().alarm is None


async def test_a_node_that_looks_nothing_up_sees_the_network_grow(
    autojump_clock, network
):
    await network.grow(30)
    before = network.nodes[0].dht.statistics().network_size
    await network.grow(90)
    await trio.sleep(60)
    after = network.nodes[0].dht.statistics().network_size
    assert before < 60
    assert 60 < after < 240


async def test_a_few_contacts_are_not_taken_for_the_whole_network(
    autojump_clock, network
):
    one, two = await network.add(), await network.add()
    await one.rpc.request(two.hub.local, Ping())
    assert len(one.dht.contacts()) == 1
    assert one.dht.statistics().network_size is None


async def test_a_forged_private_source_has_nobody_pinged_next_door(
    autojump_clock, network
):
    node = await network.add(host="8.8.4.4")
    far = await network.add(host="9.9.9.9")
    await node.rpc.request(far.hub.local, Ping())
    before = node.rpc.statistics().requests_sent
    sender = Sender(MAIN_NETWORK, NodeId(b"s" * 20), leaf=False)
    data = encode_request(sender, bytes(8), b"", Ping(), 400)
    for host in ("192.168.1.1", "127.0.0.1"):
        network.network.carry(data, Endpoint(host, 53), node.hub.local)
    await trio.sleep(1)
    assert node.rpc.statistics().served == 2
    assert node.rpc.statistics().requests_sent == before
    sender = sender._replace(node_id=node_id_of(bytes(32), "7.7.7.7"))
    data = encode_request(sender, bytes(8), b"", Ping(), 400)
    network.network.carry(data, Endpoint("7.7.7.7", 53), node.hub.local)
    await trio.sleep(0.1)
    assert node.rpc.statistics().requests_sent == before + 1


async def test_nobody_is_in_a_table_who_did_not_answer_there(autojump_clock, network):
    await network.grow(70)
    victim = network.nodes[11]
    await flood_forged(network, victim, 300)
    await flood_fresh(network, victim, 300)
    await trio.sleep(1)
    table = victim.dht._contacts.table
    answered = {e.contact for e in table.entries() if e.answered_at > float("-inf")}
    assert answered == set(victim.dht.contacts())
    known = {node.contact for node in network.nodes}
    asked = {entry.contact for entry in table.entries()} - known
    assert len(asked) <= victim.dht._config.routing.neighbours


async def test_a_flood_pushes_out_nobody_and_fills_no_memory(autojump_clock, network):
    await network.grow(60)
    await trio.sleep(1)
    victim = network.nodes[20]
    established = set(victim.dht.contacts())
    assert len(established) > 30
    await flood_fresh(network, victim, 1000)
    contacts = victim.dht._contacts
    assert established <= set(victim.dht.contacts())
    routing = victim.dht._config.routing
    # Whoever asks gets in while the table has few; then our neighbours alone, so many.
    limit = max(len(established), routing.stocked) + routing.neighbours
    assert len(contacts.table._places) <= limit
    assert len(contacts.table._checks) <= 2 * limit + 64
    assert not contacts._checks


async def test_a_node_that_becomes_a_leaf_leaves_tables_at_its_next_word(
    autojump_clock, network
):
    await network.grow(5)
    await trio.sleep(1)
    node, other = network.nodes[1], network.nodes[3]
    assert node.contact in other.dht.contacts()
    node.rpc.leaf = True
    await node.rpc.request(other.hub.local, Ping())
    await node.rpc.request(other.hub.local, FindNode(KEY))
    assert node.contact not in other.dht.contacts()
    for third in network.nodes:
        if third is not node and node.contact in third.dht.contacts():
            await third.rpc.request(node.hub.local, Ping())
            assert node.contact not in third.dht.contacts()


async def test_a_flood_of_strangers_costs_no_more_than_its_share_of_the_budget(
    autojump_clock, network
):
    node = await network.add(host="8.8.4.4")
    before = node.rpc.statistics().requests_sent
    for number in range(600):
        host = f"{20 + number // 10}.{number % 10}.7.7"
        node_id = node_id_of(number.to_bytes(32), host)
        sender = Sender(MAIN_NETWORK, node_id, leaf=False)
        data = encode_request(sender, number.to_bytes(8), b"", Ping(), 400)
        network.network.carry(data, Endpoint(host, 9), node.hub.local)
        await trio.sleep(0.1)
    # A quarter of the burst at once, and a minute's worth.
    asked = node.rpc.statistics().requests_sent - before
    assert 60 <= asked <= 60 + 60 + 1
    assert node.rpc.has_room()
