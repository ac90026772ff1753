"""`delegation_service`: what a server does for leaves, and how much of it."""

import pytest
import trio

from opnode.core.errors import RefusalCode, RequestRefused
from opnode.core.ids import claim_key
from opnode.core.records import RecordKind, build_record
from opnode.drivers.dht.config import DelegationConfig, DhtConfig
from opnode.drivers.dht.delegation_service import DelegationService
from opnode.protocols.rpc.datagrams import Sender, encode_request
from opnode.protocols.rpc.messages import (
    MAIN_NETWORK,
    MAX_CONTACTS,
    MAX_DATAGRAM,
    Delegate,
    FailureCode,
    Found,
    Ping,
)
from opnode.testing.keys import seeded_signing_key
from tests.unit.drivers.dht.samples import KEY


def claim(network, owner, size):
    return build_record(
        seeded_signing_key(owner),
        kind=RecordKind.CLAIM,
        key=KEY,
        seq=1,
        expires_at=int(network.wall_clock()) + 100_000,
        payload=bytes(size),
    )


async def server_and_leaves(network, count=1, **limits):
    config = DhtConfig(delegation=DelegationConfig(**limits))
    server = await network.add(maintained=True, dht_config=config)
    return server, [await network.add(leaf=True) for _ in range(count)]


async def test_the_closest_nodes_are_told_as_far_as_they_fit(autojump_clock, network):
    await network.grow(30)
    server, (leaf,) = await server_and_leaves(network)
    await server.dht.join([network.nodes[0].hub.local])
    answer = await leaf.rpc.request(server.hub.local, Delegate(KEY, False))
    assert isinstance(answer.body, Found)
    assert answer.body.records == ()
    assert len(answer.body.contacts) == MAX_CONTACTS


async def test_records_come_before_contacts_and_all_in_one_datagram(
    autojump_clock, network
):
    await network.grow(30)
    for owner in ("a", "b", "c"):
        await network.nodes[1].dht.put(claim(network, owner, 250))
    server, (leaf,) = await server_and_leaves(network)
    await server.dht.join([network.nodes[0].hub.local])
    received = []
    take = leaf.hub.rpc_handler

    def measure(data, source):
        received.append(len(data))
        take(data, source)

    leaf.hub.rpc_handler = measure
    answer = await leaf.rpc.request(server.hub.local, Delegate(KEY, True))
    assert len(answer.body.records) == 2
    assert max(received) <= MAX_DATAGRAM


async def test_an_address_that_is_not_proven_makes_nobody_look_up(
    autojump_clock, network
):
    server, (leaf,) = await server_and_leaves(network)
    spoofed = encode_request(
        Sender(MAIN_NETWORK, leaf.rpc.node_id, True), bytes(8), b"", Delegate(KEY, True)
    )
    before = server.hub.statistics().socket.bytes_out
    leaf.hub.send(spoofed, server.hub.local)
    await trio.sleep(5)
    assert server.dht.statistics().lookups_for_others == 0
    assert server.hub.statistics().socket.bytes_out - before <= len(spoofed)


@pytest.mark.parametrize("for_records", [False, True])
async def test_whoever_is_named_in_a_lookup_for_another_is_sent_nothing_large(
    autojump_clock, network, for_records
):
    await network.grow(60)
    server, (leaf,) = await server_and_leaves(network)
    await server.rpc.request(network.nodes[0].hub.local, Ping())
    strangers = {}
    send = server.hub.send

    def measure(data, destination, *rest):
        if not server.rpc.token_for(destination):
            strangers.setdefault(destination, len(data))
        return send(data, destination, *rest)

    server.hub.send = measure
    answer = await leaf.rpc.request(server.hub.local, Delegate(KEY, for_records))
    assert len(answer.body.contacts) == MAX_CONTACTS
    strangers.pop(leaf.hub.local)
    assert len(strangers) >= 10
    assert max(strangers.values()) < 100


async def test_a_leaf_looks_up_for_nobody(autojump_clock, network):
    _, leaves = await server_and_leaves(network, 2)
    with pytest.raises(RequestRefused) as refusal:
        await leaves[0].rpc.request(leaves[1].hub.local, Delegate(KEY, True))
    assert refusal.value.code == FailureCode.NOT_SERVED


async def refusals(asker, server, count, keys=None):
    """How many of so many questions at once are refused as too much."""
    busy = 0

    async def ask(number):
        nonlocal busy
        key = claim_key(f"key {number}") if keys is None else keys
        try:
            await asker.rpc.request(server.hub.local, Delegate(key, True))
        except RequestRefused as refusal:
            busy += refusal.code == RefusalCode.BUSY

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(ask, number)
    return busy


async def test_one_host_gets_its_ration_and_no_more(autojump_clock, network):
    server, (leaf, other) = await server_and_leaves(network, 2)
    limits = DelegationConfig()
    busy = await refusals(leaf, server, 20)
    assert 20 - busy <= limits.burst_s * limits.asks_per_s + 1
    assert await refusals(other, server, 1) == 0
    await trio.sleep(3)
    assert await refusals(leaf, server, 1) == 0


async def test_all_together_get_a_ration_and_no_more(autojump_clock, network):
    server, leaves = await server_and_leaves(network, 6, total_per_s=1.0, burst_s=4.0)
    busy = 0
    for leaf in leaves:
        busy += await refusals(leaf, server, 2)
    assert busy >= 12 - 6
    assert server.dht.statistics().lookups_for_others <= 6


async def test_without_room_in_the_budget_for_others_nobody_is_looked_up_for(
    autojump_clock, network
):
    server, (leaf,) = await server_and_leaves(network)
    server.rpc.has_room_for_another = lambda: False
    assert await refusals(leaf, server, 1) == 1
    assert server.dht.statistics().lookups_for_others == 0


class Lookups:
    """A lookup that ends when the test says so."""

    def __init__(self):
        self.began = []
        self.may_end = trio.Event()

    async def run(self, key, _):
        self.began.append(key)
        await self.may_end.wait()
        return (), ()


async def slow_server(network, nursery, lookups, count, **limits):
    server, leaves = await server_and_leaves(network, count, **limits)
    config = DelegationConfig(**limits)
    service = DelegationService(server.rpc, lookups.run, config)
    await nursery.start(service.run)
    return server, leaves


async def test_many_who_ask_for_one_key_cost_one_lookup(
    autojump_clock, network, nursery
):
    lookups = Lookups()
    server, leaves = await slow_server(network, nursery, lookups, 12, max_waiting=10)
    answers = []

    async def ask(leaf):
        try:
            answer = await leaf.rpc.request(server.hub.local, Delegate(KEY, True))
        except RequestRefused as refusal:
            answers.append(refusal.code)
        else:
            answers.append(answer.body)

    async with trio.open_nursery() as asking:
        for leaf in leaves:
            asking.start_soon(ask, leaf)
        await trio.sleep(1)
        lookups.may_end.set()
    assert lookups.began == [KEY]
    assert answers.count(Found((), ())) == 10
    assert answers.count(RefusalCode.BUSY) == 2


async def test_lookups_under_way_are_bounded(autojump_clock, network, nursery):
    lookups = Lookups()
    server, (leaf, other) = await slow_server(
        network, nursery, lookups, 2, max_running=3
    )
    async with trio.open_nursery() as asking:
        asking.start_soon(refusals, leaf, server, 3)
        await trio.sleep(1)
        assert await refusals(other, server, 1, claim_key("other")) == 1
        lookups.may_end.set()
    assert await refusals(other, server, 1, claim_key("other")) == 0


async def test_a_lookup_that_takes_too_long_is_refused_before_the_asker_gives_up(
    autojump_clock, network, nursery
):
    lookups = Lookups()
    server, (leaf,) = await slow_server(network, nursery, lookups, 1)
    began_at = trio.current_time()
    assert await refusals(leaf, server, 1) == 1
    assert trio.current_time() - began_at < 5
    lookups.may_end.set()
    assert await refusals(leaf, server, 1) == 0
