"""`own_records`: own records are put again until they expire."""

import random

import pytest
import trio

from opnode.core.errors import StorageError
from opnode.core.records import build_chunk
from opnode.drivers.dht.config import DhtConfig
from opnode.drivers.dht.own_records import OwnRecords
from opnode.testing.clock import VirtualWallClock
from tests.unit.drivers.dht.samples import KEY, claim


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


async def test_a_put_that_nobody_took_is_tried_again_soon(autojump_clock, network):
    await network.grow(2)
    owner = await network.add(maintained=True, leaf=True)
    record = claim(network)
    assert await owner.dht.put(record, republish=True) == 0
    assert owner.dht.statistics().own_failed == 1
    await trio.sleep(200)
    assert owner.dht.statistics().own_failed > 1, "there still is nobody to ask"
    await owner.dht.join([network.nodes[0].hub.local])
    await trio.sleep(100)
    assert network.nodes[0].store.records(KEY, network.wall_clock()) == [record]
    failed = owner.dht.statistics().own_failed
    await trio.sleep(1000)
    assert owner.dht.statistics().own_failed == failed


async def test_many_own_records_are_put_again_a_few_at_a_time(autojump_clock):
    config = DhtConfig(own_per_tick=3)
    wall_clock = VirtualWallClock()
    own = OwnRecords(config, wall_clock, random.Random(1))
    records = [
        build_chunk(bytes([number]), int(wall_clock()) + 10**7) for number in range(10)
    ]
    for record in records:
        own.keep(record)
    assert own.due(trio.current_time()) == []
    await trio.sleep(1.25 * config.republish_s)
    rounds = []
    while due := own.due(trio.current_time()):
        rounds.append(due)
    assert [len(due) for due in rounds] == [3, 3, 3, 1]
    put = [record for due in rounds for record in due]
    assert sorted(r.payload for r in put) == [r.payload for r in records]
    assert put != records, "each has a schedule of its own"
    assert own.put_again == 10
