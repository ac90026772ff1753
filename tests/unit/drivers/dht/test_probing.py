"""`probing`: each of some nodes says by itself what it makes of a record."""

from opnode.core.ids import Contact
from opnode.core.records import build_chunk
from opnode.drivers.dht.probing import refusal_name


def chunk(network, lifetime_s):
    return build_chunk(b"probe", int(network.wall_clock()) + lifetime_s)


async def others_of(network):
    await network.grow(4)
    asker, *others = network.nodes
    return asker.dht.prober, [Contact(o.rpc.node_id, o.hub.local) for o in others]


async def test_each_node_that_takes_a_record_hands_it_out(autojump_clock, network):
    prober, others = await others_of(network)
    record = chunk(network, 60)
    assert await prober.holders(record, others) == []
    answers = await prober.offer(record, others[:2])
    assert {a.contact for a in answers if a.took} == set(others[:2])
    assert set(await prober.holders(record, others)) == set(others[:2])


async def test_a_refusal_has_a_name(autojump_clock, network):
    prober, others = await others_of(network)
    answers = await prober.offer(chunk(network, -60), others)
    assert {(a.took, a.refusal) for a in answers} == {(False, "expired record")}


async def test_a_dead_node_neither_takes_nor_refuses(autojump_clock, network):
    prober, others = await others_of(network)
    network.kill(network.nodes[1])
    (answer,) = await prober.offer(chunk(network, 60), others[:1])
    assert answer == (others[0], False, None)
    assert await prober.holders(chunk(network, 60), others[:1]) == []


async def test_a_record_changed_on_its_way_is_not_held(autojump_clock, network):
    prober, others = await others_of(network)
    await prober.offer(chunk(network, 60), others)
    assert await prober.holders(chunk(network, 61), others) == []


async def test_nobody_to_ask_is_no_error(autojump_clock, network):
    prober, _ = await others_of(network)
    assert await prober.offer(chunk(network, 60), []) == []
    assert await prober.holders(chunk(network, 60), []) == []


def test_an_unknown_refusal_is_named_by_its_number():
    assert refusal_name(43) == "expired record"
    assert refusal_name(200) == "code 200"
