"""`dht`: joins, finds, stores, repairs, keeps contacts alive, believes nobody."""

import logging

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import RecordNotFound
from opnode.core.ids import claim_key
from opnode.drivers.dht.config import DhtConfig
from opnode.drivers.rpc.config import RpcConfig
from opnode.drivers.rpc.exchange import Indifferent
from opnode.protocols.rpc.budget import BudgetConfig
from opnode.protocols.rpc.messages import (
    FindValue,
    Ping,
)
from tests.unit.drivers.dht.samples import KEY, anything, claim


async def test_joining_makes_neighbours_known_to_each_other(autojump_clock, network):
    await network.grow(8)
    await trio.sleep(1)
    for node in network.nodes:
        known = {contact.node_id for contact in node.dht.contacts()}
        others = {other.rpc.node_id for other in network.nodes if other is not node}
        assert known == others


async def test_joining_through_nobody_alive_gives_no_contacts(autojump_clock, network):
    node = await network.add()
    assert await node.dht.join([Endpoint("10.9.9.9", 1)]) == 0
    assert await node.dht.join([]) == 0


async def test_what_was_put_is_found_from_every_other_node(autojump_clock, network):
    await network.grow(30)
    record = claim(network)
    assert await network.nodes[3].dht.put(record) >= 20
    for node in network.nodes:
        assert await node.dht.find_first(KEY, anything) == [record]


async def test_a_disk_that_fails_is_reported_once_and_the_node_goes_on(
    autojump_clock, network, caplog
):
    await network.grow(3)
    config = DhtConfig(expire_s=10)
    node = await network.add(maintained=True, dht_config=config)
    await node.dht.join([network.nodes[0].hub.local])
    record = claim(network, lifetime_s=5000)
    await node.dht.put(record, republish=True)
    node.store.close()
    with caplog.at_level(logging.WARNING):
        await trio.sleep(4000)
    assert len(caplog.records) == 1
    assert "no records can be held" in caplog.text
    assert await network.nodes[1].dht.find_first(KEY, anything) == [record]
    asked = node.hub.local
    other = FindValue(claim_key("somebody else"))
    assert (await network.nodes[1].rpc.request(asked, other)).body.total == 0
    with pytest.raises(RecordNotFound):
        await node.dht.find_first(other.key, anything)
    assert await node.dht.find_all(other.key) == []


async def test_liveness_and_refreshes_wait_while_people_use_the_budget(
    autojump_clock, network
):
    budget = BudgetConfig(endpoints_per_min=1.0, endpoints_burst=20.0)
    node = await network.add(
        host="8.8.8.8", maintained=True, rpc_config=RpcConfig(budget=budget)
    )
    others = [await network.add(host=f"{first}.9.9.9") for first in range(20, 26)]
    for other in others:
        await node.rpc.request(other.hub.local, Ping())
    await trio.sleep(60)
    before = node.rpc.statistics()
    # People look up what is far away: the budget is overdrawn for half an hour.
    for port in range(1, 40):
        node.rpc.start(Endpoint("7.7.7.7", port), Ping(), Indifferent())
    await trio.sleep(900)
    after = node.rpc.statistics()
    assert after.budget.is_short
    assert after.budget.waits > before.budget.waits
    assert after.requests_sent - before.requests_sent == 39
    # And when they are done, there is room again.
    await trio.sleep(3600)
    assert not node.rpc.statistics().budget.is_short
    assert node.rpc.statistics().requests_sent > after.requests_sent


async def test_whoever_joins_through_one_node_knows_both_halves_of_the_network(
    autojump_clock, network
):
    # All through the first, as with one seed: it alone is met by everybody.
    seed = await network.add()
    for _ in range(119):
        node = await network.add()
        await node.dht.join([seed.hub.local])
    # Of those who came first everybody was a neighbour.
    for node in network.nodes[40:]:
        own = node.rpc.node_id[0] >> 7
        halves = [contact.node_id[0] >> 7 for contact in node.dht.contacts()]
        assert halves.count(1 - own) >= 2


async def test_the_halves_of_a_network_that_lost_each_other_meet_again(
    autojump_clock, network
):
    await network.grow(8)
    network.maintain()
    await trio.sleep(1)
    hosts = [node.hub.local.host for node in network.nodes]
    network.network.partition(hosts[:4], hosts[4:])
    await trio.sleep(2 * 3600)
    assert all(len(node.dht.contacts()) == 3 for node in network.nodes)
    network.network.heal()
    await trio.sleep(1800)
    assert all(len(node.dht.contacts()) == 7 for node in network.nodes)
