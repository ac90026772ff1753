"""`opnode.testing.dht_nodes` gives real, joined nodes, the same for the same seed."""

import trio

from opnode.testing.dht_nodes import DhtNetwork


async def _ids_after_growing(seed):
    async with trio.open_nursery() as nursery:
        network = DhtNetwork(nursery, seed)
        await network.grow(5)
        # The last newcomer is being verified by those it asked.
        await trio.sleep(1)
        ids = [node.rpc.node_id for node in network.nodes]
        tables = [len(node.dht.contacts()) for node in network.nodes]
        network.close()
        nursery.cancel_scope.cancel()
    return ids, tables


async def test_nodes_that_grew_know_each_other(autojump_clock):
    _, tables = await _ids_after_growing(1)
    assert tables == [4] * 5


async def test_the_same_seed_gives_the_same_ids_and_another_seed_others(autojump_clock):
    assert await _ids_after_growing(1) == await _ids_after_growing(1)
    assert await _ids_after_growing(1) != await _ids_after_growing(2)


async def test_the_true_closest_leave_out_the_asker_and_come_nearest_first(
    autojump_clock,
):
    async with trio.open_nursery() as nursery:
        network = DhtNetwork(nursery, 3)
        await network.grow(6)
        asker = network.nodes[2]
        found = network.true_closest(asker.rpc.node_id, 3, asker)
        assert asker.rpc.node_id not in found
        distances = [
            int.from_bytes(node_id) ^ int.from_bytes(asker.rpc.node_id)
            for node_id in found
        ]
        assert distances == sorted(distances)
        network.close()
        nursery.cancel_scope.cancel()


async def test_a_killed_node_answers_nobody(autojump_clock):
    async with trio.open_nursery() as nursery:
        network = DhtNetwork(nursery, 4)
        await network.grow(2)
        network.kill(network.nodes[0])
        assert await network.nodes[1].dht.closest_nodes(bytes(20)) == []
        network.close()
        nursery.cancel_scope.cancel()
