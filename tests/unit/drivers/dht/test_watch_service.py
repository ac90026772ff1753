"""`watch_service`: what a holder does for watchers."""

import pytest
import trio

from opnode.core.errors import RefusalCode, RequestRefused
from opnode.core.records import RecordKind, build_record
from opnode.drivers.dht.config import DhtConfig
from opnode.drivers.rpc.config import RpcConfig
from opnode.protocols.rpc.datagrams import Sender, encode_request
from opnode.protocols.rpc.messages import (
    MAIN_NETWORK,
    Changed,
    FailureCode,
    Noted,
    Ping,
    Watch,
    Watching,
)
from opnode.protocols.rpc.transactions import TransactionConfig
from opnode.protocols.watching import WatchConfig
from opnode.testing.clock import DEFAULT_BASE
from opnode.testing.keys import seeded_signing_key
from tests.unit.drivers.dht.samples import KEY

EXPIRES_AT = int(DEFAULT_BASE) + 1_000_000


def claim(seq):
    return build_record(
        seeded_signing_key("anna"),
        kind=RecordKind.CLAIM,
        key=KEY,
        seq=seq,
        expires_at=EXPIRES_AT,
        payload=bytes(300),
    )


async def holder_and_leaves(network, count, **options):
    holder = await network.add(maintained=True, **options)
    leaves = [await network.add(leaf=True) for _ in range(count)]
    return holder, leaves


def hears(node):
    """Acknowledge notices and keep them."""
    heard = []

    def take(request):
        heard.append(request.body.record)
        return Noted()

    node.rpc.serve(Changed, take)
    return heard


async def test_a_watcher_gets_every_newer_record_and_no_copy(autojump_clock, network):
    holder, (leaf,) = await holder_and_leaves(network, 1)
    heard = hears(leaf)
    answer = await leaf.rpc.request(holder.hub.local, Watch(KEY, 300))
    assert answer.body == Watching(300)
    records = [claim(seq) for seq in (1, 2)]
    for record in (*records, records[1], records[0]):
        await leaf.dht.put_at(record, [holder.contact])
        await trio.sleep(1)
    assert heard == [record.wire for record in records]
    assert holder.dht.statistics().watchers == 1


async def test_an_address_that_is_not_proven_cannot_be_made_to_hear_anything(
    autojump_clock, network
):
    holder, (leaf,) = await holder_and_leaves(network, 1)
    forged = encode_request(
        Sender(MAIN_NETWORK, leaf.rpc.node_id, True), bytes(8), b"", Watch(KEY, 300)
    )
    before = holder.hub.statistics().socket
    leaf.hub.send(forged, holder.hub.local)
    await trio.sleep(1)
    await holder.dht.put(claim(1))
    await trio.sleep(1)
    after = holder.hub.statistics().socket
    assert holder.dht.statistics().watchers == 0
    assert after.bytes_out - before.bytes_out <= len(forged)


async def test_a_leaf_serves_no_watchers(autojump_clock, network):
    _, leaves = await holder_and_leaves(network, 2)
    with pytest.raises(RequestRefused) as refusal:
        await leaves[0].rpc.request(leaves[1].hub.local, Watch(KEY, 300))
    assert refusal.value.code == FailureCode.NOT_SERVED


async def test_a_full_desk_is_busy(autojump_clock, network):
    config = DhtConfig(watch=WatchConfig(max_watches=1))
    holder, leaves = await holder_and_leaves(network, 2, dht_config=config)
    await leaves[0].rpc.request(holder.hub.local, Watch(KEY, 300))
    with pytest.raises(RequestRefused, match="no room") as refusal:
        await leaves[1].rpc.request(holder.hub.local, Watch(KEY, 300))
    assert refusal.value.code == RefusalCode.BUSY


async def test_a_watcher_that_does_not_watch_any_more_is_taken_off(
    autojump_clock, network
):
    holder, (leaf,) = await holder_and_leaves(network, 1)
    # Nothing is watched there as far as the leaf's own part of watching knows.
    await leaf.rpc.request(holder.hub.local, Watch(KEY, 300))
    await holder.dht.put(claim(1))
    await trio.sleep(1)
    assert holder.dht.statistics().watchers == 0


async def test_a_crowd_of_dead_watchers_is_asked_at_a_bounded_rate_and_given_up(
    autojump_clock, network
):
    holder, (leaf,) = await holder_and_leaves(network, 1)
    crowd = [await network.add(leaf=True) for _ in range(150)]
    for member in crowd:
        await member.rpc.request(holder.hub.local, Watch(KEY, 600))
        network.kill(member)
    heard = hears(leaf)
    await leaf.rpc.request(holder.hub.local, Watch(KEY, 600))
    limit = WatchConfig().max_under_way
    for seq in (1, 2, 3):
        await holder.dht.put(claim(seq))
        for _ in range(40):
            assert holder.rpc.statistics().pending <= limit
            await trio.sleep(0.25)
        # The one that lives is told in spite of the dead.
        assert heard[-1] == claim(seq).wire
    sent = holder.rpc.statistics().requests_sent
    await holder.dht.put(claim(4))
    await trio.sleep(10)
    assert holder.rpc.statistics().requests_sent - sent <= 3


async def test_a_crowd_of_watchers_takes_no_place_in_what_the_holder_knows(
    autojump_clock, network
):
    small = RpcConfig(transactions=TransactionConfig(peers=4))
    holder = await network.add(host="8.8.8.8", maintained=True, rpc_config=small)
    friend = await network.add(host="9.9.9.9")
    crowd = [
        await network.add(host=f"11.0.{number}.1", leaf=True) for number in range(20)
    ]
    heard = [hears(member) for member in crowd]
    for member in crowd:
        await member.rpc.request(holder.hub.local, Watch(KEY, 600))
    await holder.rpc.request(friend.hub.local, Ping())
    witnesses = []
    holder.rpc.on_observed = lambda reporter, _: witnesses.append(reporter)
    spent = holder.rpc.statistics().budget
    await holder.dht.put(claim(1))
    await trio.sleep(1)
    assert all(heard)
    assert holder.rpc.token_for(friend.hub.local)
    # The lookup of the put asked the friend, and nobody else counts.
    assert set(witnesses) <= {friend.hub.local}
    used = holder.rpc.statistics().budget
    assert used.endpoints_per_min_used == spent.endpoints_per_min_used


async def test_a_node_that_cannot_send_requests_any_more_goes_on(
    autojump_clock, network
):
    holder, (leaf,) = await holder_and_leaves(network, 1)
    heard = hears(leaf)
    await leaf.rpc.request(holder.hub.local, Watch(KEY, 600))
    silent = network.network.host("10.9.9.9").address

    class Ignoring:
        def answered(self, answer):
            pass

        slow = failed = answered

    endpoint = holder.hub.local._replace(host=silent)
    exchanges = [holder.rpc.start(endpoint, Ping(), Ignoring()) for _ in range(2048)]
    await holder.dht.put(claim(1))
    await trio.sleep(0.01)
    for exchange in exchanges:
        holder.rpc.cancel(exchange)
    await holder.dht.put(claim(2))
    await trio.sleep(1)
    assert heard == [claim(2).wire]
