"""`search`: a lookup over requests; who is late is used when the answer comes."""

import trio

from opnode.core.ids import NodeId
from opnode.drivers.dht.lookups import FindNodes
from opnode.protocols.rpc.messages import FindNode, FindValue, Nodes, Refuse, Values
from tests.unit.drivers.dht.samples import KEY


async def test_requests_that_nobody_waits_for_are_forgotten(autojump_clock, network):
    await network.grow(30)
    node = network.nodes[3]
    before = node.rpc.statistics().pending
    search = node.dht._lookups.search(KEY, FindNodes())
    search.advance()
    assert node.rpc.statistics().pending > before
    search.close()
    search.ask_more(network.nodes[4].contact, FindValue(KEY))
    assert node.rpc.statistics().pending == before


async def test_a_dead_node_costs_one_lookup_its_timeout_and_the_next_nothing(
    autojump_clock, network
):
    await network.grow(30)
    node = network.nodes[3]
    closest = await node.dht.closest_nodes(KEY)
    dead = closest[:6]
    for contact in dead:
        network.network.kill(contact.endpoint.host)
    took_s = []
    for _ in range(2):
        started_at = trio.current_time()
        found = await node.dht.closest_nodes(KEY)
        took_s.append(trio.current_time() - started_at)
        assert len(found) == 20
        assert not set(dead) & set(found)
    assert took_s[1] < took_s[0]


async def test_an_answer_of_another_kind_or_a_refusal_counts_as_none(
    autojump_clock, network
):
    await network.grow(8)
    wrong, rude, asker = network.nodes[1:4]

    def refuse(request):
        raise Refuse(99, "no")

    wrong.rpc.serve(FindNode, lambda _: Values((), 0, ()))
    rude.rpc.serve(FindNode, refuse)
    found = await asker.dht.closest_nodes(KEY)
    assert len(found) == 5
    assert not {wrong.contact, rude.contact} & set(found)


async def test_contacts_that_may_not_be_named_are_refused_every_time(
    autojump_clock, network
):
    await network.grow(4)
    liar, asker = network.nodes[1], network.nodes[2]
    loopback = NodeId(b"\1" * 20) + bytes((127, 0, 0, 1, 9, 9))
    liar.rpc.serve(FindNode, lambda _: Nodes((loopback, b"\0" * 26)))
    found = await asker.dht.closest_nodes(KEY)
    assert {contact.endpoint.host for contact in found} <= {
        node.hub.local.host for node in network.nodes
    }
