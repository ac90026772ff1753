"""`reads`: what is found is the newest that verifies, and holders are repaired."""

import pytest
import trio

from opnode.core.errors import RecordNotFound
from opnode.core.ids import distance
from opnode.core.records import build_chunk
from opnode.drivers.dht.config import DhtConfig
from opnode.protocols.rpc.messages import (
    FindValue,
    Values,
)
from opnode.testing.keys import seeded_signing_key
from tests.unit.drivers.dht.samples import KEY, anything, claim


async def test_find_first_returns_before_the_lookup_is_over(autojump_clock, network):
    await network.grow(40)
    record = claim(network)
    await network.nodes[0].dht.put(record)
    node = next(n for n in network.nodes if not n.store.statistics().records)
    asked = []
    for search in (node.dht.find_first(KEY, anything), node.dht.closest_nodes(KEY)):
        before = node.rpc.statistics().requests_sent
        await search
        asked.append(node.rpc.statistics().requests_sent - before)
    assert asked[0] < asked[1] / 2
    assert node.rpc.statistics().pending == 0


async def test_find_first_goes_on_until_a_record_is_wanted(autojump_clock, network):
    await network.grow(10)
    await network.nodes[0].dht.put(claim(network, "anna"))
    await network.nodes[1].dht.put(claim(network, "berta"))
    berta = seeded_signing_key("berta").public
    found = await network.nodes[5].dht.find_first(KEY, lambda r: r.owner == berta)
    assert claim(network, "berta").payload in {r.payload for r in found}
    with pytest.raises(RecordNotFound, match="no record"):
        await network.nodes[5].dht.find_first(KEY, lambda r: r.seq == 99)


async def test_a_bag_larger_than_a_datagram_is_read_to_its_end(autojump_clock, network):
    await network.grow(4)
    leaf = await network.add(leaf=True)
    await leaf.dht.join([network.nodes[0].hub.local])
    records = [claim(network, f"owner {n}", size=900) for n in range(10)]
    for record in records:
        await network.nodes[0].dht.put(record)
    last = records[-1].owner
    found = await leaf.dht.find_first(KEY, lambda r: r.owner == last)
    assert records[-1] in found
    assert set(await leaf.dht.find_all(KEY)) == set(records)


async def test_find_all_takes_the_newest_and_repairs_who_is_behind(
    autojump_clock, network
):
    await network.grow(8)
    old, new = claim(network, seq=1), claim(network, seq=2)
    await network.nodes[0].dht.put(old)
    ahead, bare = network.nodes[3], network.nodes[4]
    ahead.store.put_untrusted(new.wire, network.wall_clock())
    bare.store.expire(network.wall_clock() + 20_000)
    reader = network.nodes[5]
    # Whoever answers late is repaired by a later read.
    for _ in range(5):
        assert await reader.dht.find_all(KEY) == [new]
    assert reader.dht.statistics().repaired == 6
    for node in network.nodes:
        if node is not reader:
            assert node.store.records(KEY, network.wall_clock()) == [new]


async def test_forged_records_from_a_holder_are_not_believed(autojump_clock, network):
    await network.grow(3)
    liar = network.nodes[1]
    forged = claim(network).wire[:-1] + b"\0"
    liar.rpc.serve(FindValue, lambda _: Values((forged,), 1, ()))
    reader = network.nodes[2]
    with pytest.raises(RecordNotFound):
        await reader.dht.find_first(KEY, anything)
    assert reader.dht.statistics().bad_records == 1


async def test_a_third_of_dead_nodes_loses_no_record(autojump_clock, network):
    await network.grow(60)
    record = claim(network)
    await network.nodes[0].dht.put(record)
    for node in network.nodes[1:21]:
        network.kill(node)
    for node in network.nodes[21:31]:
        with trio.fail_after(3):
            assert await node.dht.find_first(KEY, anything) == [record]


async def reader_of(network, **options):
    """A node that works in the background too, and holds nothing."""
    reader = await network.add(leaf=True, maintained=True, **options)
    await reader.dht.join([network.nodes[0].hub.local])
    return reader


async def test_a_newer_record_is_reported_once_after_the_first_was_returned(
    autojump_clock, network
):
    await network.grow(40)
    old, new = claim(network, seq=1), claim(network, seq=2)
    await network.nodes[0].dht.put(old)
    reader = await reader_of(network)
    holders = [n for n in network.nodes if n.store.statistics().records]
    ahead = min(holders, key=lambda n: -distance(n.rpc.node_id, KEY))
    ahead.store.put_untrusted(new.wire, network.wall_clock())
    news = []
    assert await reader.dht.find_first(KEY, anything, news.append) == [old]
    assert news == []
    await trio.sleep(10)
    assert news == [new]
    # And who was behind is repaired.
    now = network.wall_clock()
    behind = [n for n in holders if n.store.records(KEY, now) != [new]]
    assert len(behind) <= 1


async def test_a_chunk_is_not_looked_for_again(autojump_clock, network):
    await network.grow(30)
    chunk = build_chunk(b"x", int(network.wall_clock()) + 999)
    await network.nodes[0].dht.put(chunk)
    reader = await reader_of(network)
    await reader.dht.find_first(chunk.key, anything)
    sent = reader.rpc.statistics().requests_sent
    await trio.sleep(5)
    assert reader.rpc.statistics().requests_sent == sent


async def test_the_background_takes_a_few_searches_and_asks_slowly(
    autojump_clock, network
):
    await network.grow(40)
    await network.nodes[0].dht.put(claim(network))
    reader = await reader_of(network)
    for _ in range(20):
        await reader.dht.find_first(KEY, anything)
    sent = reader.rpc.statistics().requests_sent
    await trio.sleep(2)
    # Four questions a second.
    assert 3 <= reader.rpc.statistics().requests_sent - sent <= 9
    await trio.sleep(120)
    # Eight searches waited, and one was under way already; of twenty.
    assert 20 < reader.rpc.statistics().requests_sent - sent < 9 * 30


async def test_two_contents_under_one_number_are_counted(autojump_clock, network):
    await network.grow(6)
    one, two = claim(network), claim(network, size=21)
    for node, record in zip(network.nodes, (one, two) * 3, strict=True):
        node.store.put_untrusted(record.wire, network.wall_clock())
    reader = await reader_of(network)
    await reader.dht.find_all(KEY)
    assert reader.dht.statistics().equivocations == 1


async def test_a_lookup_ends_at_its_deadline(autojump_clock, network):
    await network.grow(30)
    hasty = DhtConfig(lookup_deadline_s=0.05)
    reader = await reader_of(network, dht_config=hasty)
    started_at = trio.current_time()
    with pytest.raises(RecordNotFound):
        await reader.dht.find_first(KEY, anything)
    assert trio.current_time() - started_at < 0.051


async def test_what_a_holder_finds_at_home_is_compared_with_others_later(
    autojump_clock, network
):
    await network.grow(12)
    home = await network.add(maintained=True)
    await home.dht.join([network.nodes[0].hub.local])
    old, new = claim(network, seq=1), claim(network, seq=2)
    home.store.put_untrusted(old.wire, network.wall_clock())
    for node in network.nodes[:-1]:
        node.store.put_untrusted(new.wire, network.wall_clock())
    news = []
    sent = home.rpc.statistics().requests_sent
    assert await home.dht.find_first(KEY, anything, news.append) == [old]
    assert home.rpc.statistics().requests_sent == sent
    await trio.sleep(10)
    assert news == [new]


async def test_an_owner_learns_under_which_number_its_slot_is_held(
    autojump_clock, network
):
    await network.grow(8)
    old = claim(network, seq=1)
    assert await network.nodes[0].dht.highest_seq(old) is None
    network.nodes[3].store.put_untrusted(
        claim(network, seq=7).wire, network.wall_clock()
    )
    await network.nodes[1].dht.put(claim(network, "berta", seq=9))
    assert await network.nodes[0].dht.highest_seq(old) == 7
