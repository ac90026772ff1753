"""`lookups`: the closest nodes are found, whoever answers wrongly."""

import random

import trio

from opnode.core.ids import NodeId, claim_key
from opnode.protocols.rpc.messages import (
    FindNode,
    Stored,
)

KEY = claim_key("somebody")


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
