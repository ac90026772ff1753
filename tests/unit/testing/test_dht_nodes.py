"""`opnode.testing.dht_nodes` gives real, joined nodes, the same for the same seed."""

import random

import trio

from opnode.core.addresses import is_public, subnet_group
from opnode.core.ids import fits_address
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


async def test_public_nodes_have_fitting_ids_and_a_subnet_each(autojump_clock):
    async with trio.open_nursery() as nursery:
        network = DhtNetwork(nursery, 5, public=True)
        await network.grow(8)
        hosts = [node.hub.local.host for node in network.nodes]
        assert all(map(is_public, hosts))
        assert len({subnet_group(host) for host in hosts}) == 8
        assert all(
            fits_address(node.rpc.node_id, node.hub.local.host)
            for node in network.nodes
        )
        network.close()
        nursery.cancel_scope.cancel()


async def test_a_removed_node_is_gone_and_leaves_no_task(autojump_clock):
    async with trio.open_nursery() as nursery:
        network = DhtNetwork(nursery, 6)
        await network.grow(3)
        tasks = len(nursery.child_tasks)
        node = network.nodes[1]
        network.remove(node)
        await trio.sleep(1)
        assert node not in network.nodes
        assert len(nursery.child_tasks) == tasks - 1
        network.close()
        nursery.cancel_scope.cancel()


async def test_nodes_do_their_periodic_work_once_the_network_is_maintained(
    autojump_clock,
):
    async with trio.open_nursery() as nursery:
        network = DhtNetwork(nursery, 7)
        await network.grow(3)
        await trio.sleep(4000)
        sent = network.network.statistics().sent
        network.maintain()
        await network.grow(1)
        await trio.sleep(4000)
        assert network.network.statistics().sent > sent + 50
        network.close()
        nursery.cancel_scope.cancel()


async def test_a_node_with_a_wrong_clock_is_wrong_alone(autojump_clock):
    async with trio.open_nursery() as nursery:
        network = DhtNetwork(nursery, 7)
        await network.grow(2)
        wrong, right = network.nodes
        wrong.wall_clock.jump(-3600)
        assert wrong.wall_clock() == network.wall_clock() - 3600
        assert right.wall_clock() == network.wall_clock()
        network.close()
        nursery.cancel_scope.cancel()


async def test_nodes_that_are_made_acquainted_find_the_true_closest_unjoined(
    autojump_clock,
):
    async with trio.open_nursery() as nursery:
        network = DhtNetwork(nursery, 8)
        for _ in range(60):
            await network.add()
        network.acquaint(3)
        assert network.network.statistics().sent == 0
        asker = network.nodes[5]
        own = int.from_bytes(asker.rpc.node_id)
        away = [own ^ int.from_bytes(c.node_id) for c in asker.dht.contacts()]
        assert sum(number.bit_length() == 160 for number in away) == 3
        key = random.Random(1).randbytes(20)
        found = [contact.node_id for contact in await asker.dht.closest_nodes(key)]
        assert found == network.true_closest(key, 20, asker)
        network.close()
        nursery.cancel_scope.cancel()
