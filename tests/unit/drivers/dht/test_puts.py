"""`puts`: records are put where readers will look."""

import pytest

from opnode.core.errors import RequestRefused
from opnode.core.ids import claim_key, distance
from opnode.core.records import RecordKind, build_record
from opnode.drivers.dht.config import DhtConfig
from opnode.protocols.density import DensityConfig
from opnode.protocols.lookup.config import LookupConfig
from opnode.protocols.rpc.messages import (
    FailureCode,
    Store,
)
from opnode.testing.keys import seeded_signing_key

KEY = claim_key("somebody")
NARROW = DhtConfig(lookup=LookupConfig(k=3), density=DensityConfig(k=3))


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


async def test_an_older_record_is_refused_by_every_holder_and_the_reason_is_counted(
    autojump_clock, network
):
    await network.grow(6)
    await network.nodes[0].dht.put(claim(network, seq=2))
    assert await network.nodes[1].dht.put(claim(network, seq=1)) == 0
    refusals = dict(network.nodes[1].dht.statistics().refusals)
    assert refusals["StaleRecord"] == 6


async def test_only_the_closest_servers_hold_their_own_put(autojump_clock, network):
    for _ in range(12):
        node = await network.add(dht_config=NARROW)
        await node.dht.join([network.nodes[0].hub.local])
    record = claim(network)
    ranked = sorted(network.nodes, key=lambda n: distance(n.rpc.node_id, KEY))
    assert 4 <= await ranked[0].dht.put(record) < 12
    assert ranked[0].store.statistics().records == 1
    assert 3 <= await ranked[-1].dht.put(record) < 12
    assert ranked[-1].store.statistics().records == 0


async def test_a_refusal_of_our_own_store_is_counted_not_raised(
    autojump_clock, network
):
    node = await network.add()
    await node.dht.put(claim(network, seq=2))
    assert await node.dht.put(claim(network, seq=1)) == 0
    assert dict(node.dht.statistics().refusals) == {"StaleRecord": 1}
