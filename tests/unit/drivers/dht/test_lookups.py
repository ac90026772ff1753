"""`lookups`: the closest nodes are found, whoever answers wrongly."""

import random

import trio

from opnode.core.ids import NodeId, distance
from opnode.core.records import RecordKind, build_record
from opnode.protocols.rpc.messages import (
    FindNode,
    Ping,
    Stored,
)
from opnode.testing.adversaries import Gang, Lie, plant
from opnode.testing.keys import seeded_signing_key
from tests.unit.drivers.dht.samples import KEY


async def test_closest_nodes_are_the_true_ones(autojump_clock, network):
    await network.grow(60)
    asker = network.nodes[7]
    for number in range(5):
        key = random.Random(number).randbytes(20)
        found = [contact.node_id for contact in await asker.dht.closest_nodes(key)]
        assert found == network.true_closest(key, 20, asker)


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


async def test_a_newcomer_meets_far_parts_of_the_network_by_small_questions(
    autojump_clock, network
):
    await network.grow(120, pause_s=60.0)
    newcomer = await network.add()
    await newcomer.dht.join([network.nodes[0].hub.local])
    own = int.from_bytes(newcomer.rpc.node_id)
    distances = [own ^ int.from_bytes(c.node_id) for c in newcomer.dht.contacts()]
    # The half without us, and of our half the quarter without us.
    assert sum(away.bit_length() == 160 for away in distances) >= 8
    assert sum(away.bit_length() == 159 for away in distances) >= 8
    lines = newcomer.rpc.statistics().traffic
    asked = {line.message: line.datagrams_out for line in lines if line.side == "asked"}
    assert asked["PING"] > 10
    assert asked["FIND_NODE"] < 45


async def test_a_gang_that_fills_what_we_know_of_a_key_does_not_hide_its_region(
    autojump_clock, nursery, network
):
    await network.grow(80)
    honest = list(network.nodes)
    gang = Gang(network, nursery, random.Random(1))
    for node in await plant(network, KEY, 40, random.Random(1)):
        gang.turn(node, Lie.COLLUDE)
    asker = min(honest, key=lambda node: distance(node.rpc.node_id, KEY))
    for member in gang.members:
        await asker.rpc.request(member.hub.local, Ping())
    contacts = asker.dht.contacts()
    near = sorted(contacts, key=lambda c: distance(c.node_id, KEY))[:20]
    assert {c.node_id for c in near} <= {m.rpc.node_id for m in gang.members}
    for number in range(8):
        await asker.dht.closest_nodes(random.Random(number).randbytes(20))
    record = build_record(
        seeded_signing_key("owner"),
        kind=RecordKind.CLAIM,
        key=KEY,
        seq=1,
        expires_at=int(network.wall_clock()) + 3600,
        payload=b"",
    )
    await asker.dht.put(record)
    now = network.wall_clock()
    others = [node for node in honest if node is not asker]
    assert sum(bool(node.store.records(KEY, now)) for node in others) >= 10
