"""`delegation`: servers look up for a leaf, which believes none of them alone."""

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import RecordNotFound
from opnode.core.ids import Contact, claim_key, distance
from opnode.core.records import RecordKind, build_record
from opnode.drivers.dht.config import DelegationConfig, DhtConfig
from opnode.drivers.rpc.config import RpcConfig
from opnode.protocols.rpc.budget import BudgetConfig
from opnode.protocols.rpc.messages import (
    Delegate,
    FindValue,
    Found,
    Nodes,
    Ping,
    Values,
    pack_contact,
)
from opnode.testing.keys import seeded_signing_key
from tests.unit.drivers.dht.samples import KEY, anything

# The three are waited for longer than a lookup ever takes here: who answers is no race.
FEW = DhtConfig(delegation=DelegationConfig(few_bindings=True, grace_s=1.0))


def claim(network, seq=1, owner="anna"):
    return build_record(
        seeded_signing_key(owner),
        kind=RecordKind.CLAIM,
        key=KEY,
        seq=seq,
        expires_at=int(network.wall_clock()) + 100_000,
        payload=b"",
    )


async def grow(network, count):
    for _ in range(count):
        node = await network.add(maintained=True)
        if len(network.nodes) > 1:
            await node.dht.join([network.nodes[0].hub.local])


class Touched:
    """Where a node sends to from now on."""

    def __init__(self, node):
        self.endpoints = set()
        send = node.hub.send

        def watch(data, destination, *rest, **options):
            self.endpoints.add(destination)
            return send(data, destination, *rest, **options)

        node.hub.send = watch


async def frugal_leaf(network, **options):
    options.setdefault("dht_config", FEW)
    leaf = await network.add(leaf=True, maintained=True, **options)
    await leaf.dht.join([network.nodes[0].hub.local])
    return leaf


async def test_a_delegated_get_touches_at_most_three_endpoints(autojump_clock, network):
    await grow(network, 40)
    record = claim(network)
    await network.nodes[5].dht.put(record)
    leaf = await frugal_leaf(network)
    touched = Touched(leaf)
    for _ in range(5):
        assert await leaf.dht.find_first(KEY, anything) == [record]
    # The same three every time.
    assert len(touched.endpoints) <= 3
    assert leaf.dht.statistics().delegated == 5
    assert sum(n.dht.statistics().lookups_for_others for n in network.nodes) == 15


async def test_without_the_setting_a_leaf_looks_up_itself(autojump_clock, network):
    await grow(network, 20)
    await network.nodes[5].dht.put(claim(network))
    leaf = await frugal_leaf(network, dht_config=None)
    assert await leaf.dht.find_first(KEY, anything)
    assert leaf.dht.statistics().delegated == 0


async def test_a_server_looks_up_itself_whatever_the_setting(autojump_clock, network):
    await grow(network, 5)
    server = await network.add(maintained=True, dht_config=FEW)
    await server.dht.join([network.nodes[0].hub.local])
    await server.dht.closest_nodes(KEY)
    assert server.dht.statistics().delegated == 0


async def test_when_the_budget_of_mappings_is_spent_servers_look_up_for_a_leaf(
    autojump_clock, network
):
    await grow(network, 20)
    await network.nodes[5].dht.put(claim(network))
    tight = RpcConfig(budget=BudgetConfig(endpoints_per_min=1.0, endpoints_burst=4.0))
    leaf = await frugal_leaf(network, dht_config=None, rpc_config=tight)
    # The networks of these tests are private, whose addresses take no mapping.
    for number in range(8):
        now = trio.current_time()
        leaf.rpc._asker.budget.spend(Endpoint(f"8.8.{number}.8", 1), now)
    assert await leaf.dht.find_first(KEY, anything)
    assert leaf.dht.statistics().delegated == 1


async def test_a_put_goes_to_close_nodes_that_answered_us(autojump_clock, network):
    await grow(network, 26)
    leaf = await frugal_leaf(network)
    touched = Touched(leaf)
    record = claim(network)
    assert await leaf.dht.put(record) == FEW.delegation.holders
    assert len(touched.endpoints) <= 3 + FEW.delegation.holders
    assert await network.nodes[9].dht.find_first(KEY, anything) == [record]
    nearest = network.true_closest(KEY, FEW.delegation.holders, leaf)
    held = [n.rpc.node_id for n in network.nodes if n.store.records(KEY, 1e9)]
    assert len(set(nearest) & set(held)) >= FEW.delegation.holders - 1


async def test_all_records_are_read_from_those_who_hold_them(autojump_clock, network):
    await grow(network, 26)
    old, new = claim(network, 1), claim(network, 2)
    other = claim(network, 1, "bert")
    for record in (old, new, other):
        await network.nodes[5].dht.put(record)
    leaf = await frugal_leaf(network)
    touched = Touched(leaf)
    found = await leaf.dht.find_all(KEY)
    assert sorted(r.wire for r in found) == sorted([new.wire, other.wire])
    assert len(touched.endpoints) <= 3 + FEW.delegation.checks


async def test_what_nobody_holds_is_not_found_with_few_questions(
    autojump_clock, network
):
    await grow(network, 26)
    leaf = await frugal_leaf(network)
    touched = Touched(leaf)
    with pytest.raises(RecordNotFound):
        await leaf.dht.find_first(KEY, anything)
    assert len(touched.endpoints) <= 3 + FEW.delegation.checks


async def test_without_any_server_that_answers_the_leaf_looks_up_itself(
    autojump_clock, network
):
    await grow(network, 20)
    record = claim(network)
    await network.nodes[5].dht.put(record)
    leaf = await frugal_leaf(network)
    for node in network.nodes[:-1]:
        node.rpc.serve(Delegate, lambda _: Nodes(()))
    assert await leaf.dht.find_first(KEY, anything) == [record]
    assert await leaf.dht.find_all(KEY) == [record]
    assert len(await leaf.dht.closest_nodes(KEY)) == 20
    assert await leaf.dht.put(claim(network, 2)) > 8


async def lying(network, leaf, answer):
    """Make one of the three servers that the leaf uses a liar; returns it."""
    await leaf.dht.closest_nodes(claim_key("first"))
    server = next(iter(leaf.dht._delegation._servers))
    liar = next(n for n in network.nodes if n.contact == server)
    liar.rpc.serve(Delegate, answer)
    return liar


async def test_a_liar_among_the_servers_cannot_make_an_older_record_win(
    autojump_clock, network
):
    await grow(network, 26)
    old, new = claim(network, 1), claim(network, 2)
    await network.nodes[5].dht.put(new)
    leaf = await frugal_leaf(network)
    # It answers at once; the honest ones have to look first.
    await lying(network, leaf, lambda _: Found((old.wire,), ()))
    assert await leaf.dht.find_first(KEY, anything) == [new]


async def test_a_liar_cannot_make_a_record_up_or_disappear(autojump_clock, network):
    await grow(network, 26)
    record = claim(network)
    await network.nodes[5].dht.put(record)
    forged = record.wire[:-1] + bytes([record.wire[-1] ^ 1])
    leaf = await frugal_leaf(network)
    for answer in (Found((forged,), ()), Found((), ())):
        await lying(network, leaf, lambda _, answer=answer: answer)
        assert await leaf.dht.find_first(KEY, anything) == [record]
    assert leaf.dht.statistics().bad_records >= 1


async def test_a_liar_cannot_name_all_the_nodes_that_count(autojump_clock, network):
    await grow(network, 26)
    friends = [await network.add() for _ in range(20)]
    for friend in friends:
        # They answer, hold nothing, and are nowhere near but claim to be.
        friend.rpc.node_id = KEY[:-1] + bytes([friend.rpc.node_id[-1]])
        friend.rpc.serve(FindValue, lambda _: Values((), 0, ()))
    packed = tuple(pack_contact(Contact(f.rpc.node_id, f.hub.local)) for f in friends)
    leaf = await frugal_leaf(network)
    await lying(network, leaf, lambda _: Found((), packed))
    record = claim(network)
    assert await leaf.dht.put(record) >= FEW.delegation.holders // 2
    honest = [n for n in network.nodes if n not in friends]
    held = [n for n in honest if n.store.records(KEY, 1e9)]
    assert len(held) >= 4
    assert await leaf.dht.find_all(KEY) == [record]


async def test_a_server_that_died_is_replaced_by_another(autojump_clock, network):
    await grow(network, 26)
    record = claim(network)
    await network.nodes[5].dht.put(record)
    leaf = await frugal_leaf(network)
    await leaf.dht.find_first(KEY, anything)
    # Whoever put the record lives on, and may be one of them.
    dead = set(leaf.dht._delegation._servers) - {network.nodes[5].contact}
    assert dead
    for server in dead:
        network.network.kill(server.endpoint.host)
    await trio.sleep(10)
    # Nobody answers; the leaf looks itself, and next time there are others.
    assert await leaf.dht.find_first(KEY, anything) == [record]
    assert await leaf.dht.find_first(KEY, anything) == [record]
    assert not dead & set(leaf.dht._delegation._servers)


async def test_a_server_is_given_up_when_it_is_slow_again_and_again(
    autojump_clock, network
):
    await grow(network, 26)
    leaf = await frugal_leaf(network)
    await leaf.dht.closest_nodes(KEY)
    three = set(leaf.dht._delegation._servers)
    slow = next(n for n in network.nodes if n.contact in three)
    # Its answer is not there when those of the others have been waited for.
    slow.rpc.serve(Delegate, lambda _: None)
    await leaf.dht.closest_nodes(KEY)
    assert set(leaf.dht._delegation._servers) == three
    await leaf.dht.closest_nodes(KEY)
    assert set(leaf.dht._delegation._servers) == three - {slow.contact}
    await leaf.dht.closest_nodes(KEY)
    assert len(leaf.dht._delegation._servers) == 3


async def test_one_dead_server_holds_nothing_up(autojump_clock, network):
    await grow(network, 26)
    await network.nodes[5].dht.put(claim(network))
    usual = DhtConfig(delegation=DelegationConfig(few_bindings=True))
    leaf = await frugal_leaf(network, dht_config=usual)
    await leaf.dht.closest_nodes(KEY)
    network.network.kill(next(iter(leaf.dht._delegation._servers)).endpoint.host)
    for work in (
        lambda: leaf.dht.find_first(KEY, anything),
        lambda: leaf.dht.closest_nodes(KEY),
        lambda: leaf.dht.find_all(KEY),
    ):
        began_at = trio.current_time()
        assert await work()
        assert trio.current_time() - began_at < 2


async def test_those_come_first_to_whom_there_is_a_mapping(autojump_clock, network):
    await grow(network, 30)
    leaf = await frugal_leaf(network)
    # Longer than a token is relied on; nobody was asked meanwhile.
    leaf.dht._contacts.tick = lambda _: None
    await trio.sleep(300)
    talked_to = network.nodes[3:6]
    for node in talked_to:
        await leaf.rpc.request(node.hub.local, Ping())
    await leaf.dht.closest_nodes(KEY)
    assert set(leaf.dht._delegation._servers) <= {n.contact for n in talked_to}
    assert len(leaf.dht._delegation._servers) >= 2


async def test_servers_have_no_network_in_common(autojump_clock, network):
    for number in range(12):
        host = f"8.{number // 4}.{number}.1"
        node = await network.add(host=host, maintained=True)
        if number:
            await node.dht.join([network.nodes[0].hub.local])
    leaf = await frugal_leaf(network, host="9.9.9.9")
    await leaf.dht.closest_nodes(KEY)
    servers = leaf.dht._delegation._servers
    assert len(servers) == 3
    assert len({s.endpoint.host.split(".")[1] for s in servers}) == 3


async def test_nodes_come_nearest_first(autojump_clock, network):
    await grow(network, 30)
    leaf = await frugal_leaf(network)
    nodes = await leaf.dht.closest_nodes(KEY)
    distances = [distance(node.node_id, KEY) for node in nodes]
    assert distances == sorted(distances)
