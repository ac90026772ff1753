"""`own_records`: own records are put again until they expire."""

import pytest
import trio

from opnode.core.errors import StorageError
from opnode.core.ids import claim_key
from opnode.core.records import RecordKind, build_chunk, build_record
from opnode.drivers.dht.config import DhtConfig
from opnode.testing.keys import seeded_signing_key

KEY = claim_key("somebody")


def claim(network, owner="anna", seq=1, lifetime_s=10_000, size=20):
    return build_record(
        seeded_signing_key(owner),
        kind=RecordKind.CLAIM,
        key=KEY,
        seq=seq,
        expires_at=int(network.wall_clock()) + lifetime_s,
        payload=bytes(size),
    )


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
