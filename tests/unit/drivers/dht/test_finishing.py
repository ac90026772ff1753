"""`finishing`: searches go on in the background, a few, slowly, and end."""

import trio

from opnode.drivers.dht.config import DhtConfig, FinishingConfig
from opnode.drivers.dht.finishing import Finishing
from opnode.drivers.dht.lookups import FindNodes
from tests.unit.drivers.dht.samples import KEY

CONFIG = DhtConfig(
    finishing=FinishingConfig(waiting=2, delay_s=1.0, pace_s=0.1),
    lookup_deadline_s=5.0,
)


def search_of(node):
    search = node.dht._lookups.search(KEY, FindNodes())
    search.is_stopped = True
    return search


async def test_a_search_is_finished_after_a_while_at_its_pace(autojump_clock, network):
    await network.grow(25)
    node = network.nodes[3]
    ends = []

    async def end():
        ends.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        finishing = Finishing(CONFIG, lambda: True)
        assert not finishing.has_room
        await nursery.start(finishing.run)
        started_at = trio.current_time()
        search = search_of(node)
        finishing.take(search, end)
        await trio.sleep(0.9)
        assert search.lookup.asked == 0
        await trio.sleep(1.1)
        assert 5 <= search.lookup.asked <= 11
        await trio.sleep(10)
        assert len(ends) == 1
        assert search.lookup.finished
        assert ends[0] - started_at >= 1.0 + 0.1 * (search.lookup.asked - 1)
        nursery.cancel_scope.cancel()


async def test_only_so_many_wait_and_none_is_left_open(autojump_clock, network):
    await network.grow(8)
    node = network.nodes[3]

    async def end():
        await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        finishing = Finishing(CONFIG, lambda: True)
        await nursery.start(finishing.run)
        for _ in range(2):
            assert finishing.has_room
            finishing.take(search_of(node), end)
        assert not finishing.has_room
        await trio.sleep(1.3)
        assert finishing.has_room
        nursery.cancel_scope.cancel()
    assert not finishing.has_room
    assert node.rpc.statistics().pending == 0


async def test_nothing_is_asked_while_there_is_no_room_in_the_budget(
    autojump_clock, network
):
    await network.grow(8)

    async def end():
        await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        finishing = Finishing(CONFIG, lambda: False)
        await nursery.start(finishing.run)
        search = search_of(network.nodes[3])
        finishing.take(search, end)
        await trio.sleep(10)
        assert search.lookup.asked == 0
        nursery.cancel_scope.cancel()
