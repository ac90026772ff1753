"""`puts`: records are put where readers will look."""

import random

import pytest

from opnode.core.errors import OtherSequence, RequestRefused
from opnode.core.ids import distance
from opnode.drivers.dht.config import DhtConfig
from opnode.protocols.density import DensityConfig
from opnode.protocols.lookup.config import LookupConfig
from opnode.protocols.rpc.messages import (
    NO_RECORD,
    FailureCode,
    Refuse,
    Store,
)
from opnode.testing.adversaries import Gang, Lie, plant
from tests.unit.drivers.dht.samples import KEY, anything, claim

NARROW = DhtConfig(lookup=LookupConfig(k=3), density=DensityConfig(k=3))


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


async def test_a_put_is_one_request_for_each_holder(autojump_clock, network):
    await network.grow(60)
    node = network.nodes[7]
    # Tokens of everybody near: a refused STORE would be sent twice.
    await node.dht.closest_nodes(KEY)
    before = node.rpc.statistics().requests_sent
    accepted = await node.dht.put(claim(network))
    sent = node.rpc.statistics().requests_sent - before
    assert accepted >= 20
    assert sent <= accepted + 8


async def test_the_whole_region_holds_what_was_put(autojump_clock, network):
    await network.grow(80)
    node = network.nodes[7]
    for number in range(6):
        await node.dht.closest_nodes(random.Random(number).randbytes(20))
    radius = node.dht._lookups.radius()
    await node.dht.put(claim(network))
    members = [n for n in network.nodes if distance(n.rpc.node_id, KEY) < radius]
    assert len(members) > 5
    now = network.wall_clock()
    bare = [n for n in members if not n.store.records(KEY, now)]
    # One that answers late is asked, and may refuse for want of a token.
    assert len(bare) <= 1


async def test_a_record_too_large_to_ask_for_neighbours_is_put_as_well(
    autojump_clock, network
):
    await network.grow(40)
    record = claim(network, size=1000)
    assert await network.nodes[3].dht.put(record) >= 20
    reader = network.nodes[9]
    assert await reader.dht.find_all(KEY) == [record]


async def test_a_conditional_put_takes_the_place_of_what_it_expects(
    autojump_clock, network
):
    await network.grow(25)
    one, two = network.nodes[3], network.nodes[9]
    assert await one.dht.put(claim(network, seq=1), expected_seq=NO_RECORD) >= 20
    assert await two.dht.put(claim(network, seq=2), expected_seq=1) >= 20
    with pytest.raises(OtherSequence, match="another"):
        await one.dht.put(claim(network, seq=3), expected_seq=1, republish=True)
    assert one.dht.statistics().own_records == 0
    with pytest.raises(OtherSequence):
        await one.dht.put(claim(network, seq=3), expected_seq=NO_RECORD)
    assert (await one.dht.find_all(KEY))[0].seq == 2
    assert await one.dht.put(claim(network, seq=3), expected_seq=2, republish=True)
    assert one.dht.statistics().own_records == 1


async def test_a_few_holders_that_are_behind_or_lie_do_not_stop_a_conditional_put(
    autojump_clock, network
):
    await network.grow(25)
    await network.nodes[3].dht.put(claim(network, seq=1))

    def refuse(request):
        raise Refuse(FailureCode.OTHER_SEQ, "no")

    for liar in network.nodes[10:15]:
        liar.rpc.serve(Store, refuse)
    assert await network.nodes[3].dht.put(claim(network, seq=2), expected_seq=1) > 10


@pytest.mark.slow
async def test_a_gang_next_to_the_key_does_not_hide_what_is_put_there(
    autojump_clock, nursery, network
):
    await network.grow(100)
    honest = list(network.nodes)
    gang = Gang(network, nursery, random.Random(2))
    for node in await plant(network, KEY, 50, random.Random(2)):
        gang.turn(node, Lie.COLLUDE)
    ranked = sorted(network.nodes, key=lambda n: distance(n.rpc.node_id, KEY))
    assert not [node for node in ranked[:20] if node in honest]
    owner, *readers = random.Random(3).sample(honest, 6)
    for number, node in enumerate((owner, *readers)):
        await node.dht.closest_nodes(random.Random(number).randbytes(20))
    record = claim(network)
    await owner.dht.put(record)
    now = network.wall_clock()
    assert sum(bool(n.store.records(KEY, now)) for n in honest) >= 10
    for reader in readers:
        assert await reader.dht.find_first(KEY, anything) == [record]
        assert await reader.dht.find_all(KEY) == [record]
