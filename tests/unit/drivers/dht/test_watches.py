"""`watches`: what this node watches at others, and what it believes of it."""

import pytest
import trio

from opnode.core.errors import LocalProtocolError, RequestRefused
from opnode.core.ids import claim_key
from opnode.core.peerfile import Identity, build_presence, certify_location
from opnode.core.records import RecordKind, build_record
from opnode.drivers.dht.config import DelegationConfig, DhtConfig, WatchesConfig
from opnode.drivers.dht.watches import Watched
from opnode.protocols.rpc.messages import Changed, FailureCode
from opnode.testing.keys import seeded_signing_key, seeded_static_key
from tests.unit.drivers.dht.samples import KEY

ROUND_TRIP_S = 0.1
"""The longest of the network that the fixture makes."""


def claim(network, seq, owner="anna", key=KEY, lifetime_s=100_000):
    return build_record(
        seeded_signing_key(owner),
        kind=RecordKind.CLAIM,
        key=key,
        seq=seq,
        expires_at=int(network.wall_clock()) + lifetime_s,
        payload=b"",
    )


async def grow(network, count, **options):
    """Nodes that run their periodic work, which sends the notices."""
    for _ in range(count):
        node = await network.add(maintained=True, **options)
        if len(network.nodes) > 1:
            await node.dht.join([network.nodes[0].hub.local])


async def leaf_of(network, **options):
    leaf = await network.add(leaf=True, maintained=True, **options)
    await leaf.dht.join([network.nodes[0].hub.local])
    return leaf


def watchers(network):
    return sum(node.dht.statistics().watchers for node in network.nodes)


async def wait_watching(network, count=4):
    with trio.fail_after(5):
        while watchers(network) < count:  # noqa: ASYNC110 - told by several nodes
            await trio.sleep(0.05)
    # Reading what the holders have takes a round trip more.
    await trio.sleep(0.5)


async def next_of(watched):
    with trio.fail_after(5):
        return await watched.__anext__()


async def is_silent(watched):
    with trio.move_on_after(5):
        await watched.__anext__()
        return False
    return True


async def test_a_change_arrives_within_two_round_trips_and_without_asking(
    autojump_clock, network
):
    await grow(network, 12)
    leaf = await leaf_of(network)
    owner = network.nodes[5]
    async with leaf.dht.watch(KEY) as watched:
        await wait_watching(network)
        for seq in range(1, 4):
            record = claim(network, seq)
            holders = await owner.dht.closest_nodes(KEY)
            # Changes that follow each other closely are paced.
            await trio.sleep(1)
            asked_before = leaf.rpc.statistics().requests_sent
            put_at = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(owner.dht.put_at, record, holders)
                assert await next_of(watched) == record
                # One way for the STORE, after a PING for a token; one for the notice.
                assert trio.current_time() - put_at <= 2 * ROUND_TRIP_S
            assert leaf.rpc.statistics().requests_sent == asked_before


async def test_what_is_held_comes_first_and_each_newer_record_once(
    autojump_clock, network
):
    await grow(network, 12)
    leaf = await leaf_of(network)
    first, second = claim(network, 1), claim(network, 2)
    await network.nodes[3].dht.put(first)
    async with leaf.dht.watch(KEY) as watched:
        assert await next_of(watched) == first
        await wait_watching(network)
        await network.nodes[3].dht.put(second)
        assert await next_of(watched) == second
        await network.nodes[4].dht.put(second)
        assert await is_silent(watched)


async def test_of_several_changes_that_nobody_read_the_newest_is_told(
    autojump_clock, network
):
    await grow(network, 6)
    leaf = await leaf_of(network)
    async with leaf.dht.watch(KEY) as watched:
        await wait_watching(network)
        for seq in range(1, 4):
            await network.nodes[3].dht.put(claim(network, seq))
            await trio.sleep(1)
        assert (await next_of(watched)).seq == 3
        assert await is_silent(watched)


async def test_a_server_that_holds_the_record_itself_hears_of_it_too(
    autojump_clock, network
):
    await grow(network, 3)
    async with network.nodes[1].dht.watch(KEY) as watched:
        record = claim(network, 1)
        await network.nodes[2].dht.put(record)
        assert await next_of(watched) == record


async def test_when_holders_die_the_watch_moves_to_others_and_misses_nothing(
    autojump_clock, network
):
    await grow(network, 16)
    leaf = await leaf_of(network)
    async with leaf.dht.watch(KEY) as watched:
        await wait_watching(network)
        for endpoint in list(watched.holders):
            network.network.kill(endpoint.host)
        killed = set(watched.holders)
        owner = next(n for n in network.nodes if n.hub.local not in killed)
        await owner.dht.put(claim(network, 1))
        # It is noticed at the next renewal, and what changed meanwhile is read then.
        await trio.sleep(WatchesConfig().renew_s + 10)
        assert len(watched.holders) == WatchesConfig().holders
        assert not killed & set(watched.holders)
        assert (await next_of(watched)).seq == 1
        await owner.dht.put(claim(network, 2))
        assert (await next_of(watched)).seq == 2


async def test_behind_a_nat_renewals_keep_few_mappings_open(autojump_clock, network):
    await grow(network, 8)
    leaf = await leaf_of(network)
    leaf.dht.watch_behind_nat(lambda: True)
    async with leaf.dht.watch(KEY) as watched:
        await wait_watching(network, WatchesConfig().holders_behind_nat)
        assert len(watched.holders) == 2
        holder = next(n for n in network.nodes if n.hub.local in watched.holders)
        served = holder.rpc.statistics().served
        await trio.sleep(300)
        # One renewal in 25 s, never later; the table's own pings come to it.
        assert 12 <= holder.rpc.statistics().served - served < 30


async def test_a_watch_lasts_as_long_as_its_block_and_ends_at_the_holders_with_it(
    autojump_clock, network
):
    await grow(network, 8)
    leaf = await leaf_of(network)
    async with leaf.dht.watch(KEY) as watched:
        await wait_watching(network)
        await trio.sleep(3000)
        assert watchers(network) == 4
        await network.nodes[3].dht.put(claim(network, 1))
        assert (await next_of(watched)).seq == 1
        assert leaf.dht.statistics().watching == 1
    await trio.sleep(1)
    assert watchers(network) == 0
    assert leaf.dht.statistics().watching == 0


async def test_two_watches_of_one_key_do_not_end_each_other(autojump_clock, network):
    await grow(network, 6)
    leaf = await leaf_of(network)
    async with leaf.dht.watch(KEY) as watched:
        await wait_watching(network)
        async with leaf.dht.watch(KEY) as other:
            await trio.sleep(1)
        assert other.holders == {}
        await trio.sleep(1)
        await network.nodes[3].dht.put(claim(network, 1))
        assert (await next_of(watched)).seq == 1


async def test_a_watcher_that_vanished_costs_its_holders_nothing_after_a_while(
    autojump_clock, network
):
    await grow(network, 8)
    leaf = await leaf_of(network)
    async with leaf.dht.watch(KEY):
        await wait_watching(network)
        network.kill(leaf)
        await trio.sleep(WatchesConfig().lifetime_s + 5)
        assert watchers(network) == 0


async def test_a_notice_that_was_not_asked_for_is_refused_and_believed_by_nobody(
    autojump_clock, network
):
    await grow(network, 6)
    leaf = await leaf_of(network)
    async with leaf.dht.watch(KEY) as watched:
        await wait_watching(network)
        holder = next(n for n in network.nodes if n.hub.local in watched.holders)
        stranger = next(
            n
            for n in network.nodes
            if n is not leaf and n.hub.local not in watched.holders
        )
        other_key = claim(network, 1, key=claim_key("other"))
        for sender, record in (
            (stranger, claim(network, 1)),
            (holder, other_key),
        ):
            with pytest.raises(RequestRefused) as refusal:
                await sender.rpc.request(leaf.hub.local, Changed(record.wire))
            assert refusal.value.code == FailureCode.NOT_SERVED
        assert await is_silent(watched)


async def test_a_holder_that_lies_is_not_believed(autojump_clock, network):
    await grow(network, 6)
    leaf = await leaf_of(network)
    async with leaf.dht.watch(KEY) as watched:
        await wait_watching(network)
        holder = next(n for n in network.nodes if n.hub.local in watched.holders)
        newest = claim(network, 5)
        await holder.rpc.request(leaf.hub.local, Changed(newest.wire))
        assert await next_of(watched) == newest
        forged = newest.wire[:-1] + bytes([newest.wire[-1] ^ 1])
        for wire in (forged, claim(network, 4).wire, newest.wire):
            await holder.rpc.request(leaf.hub.local, Changed(wire))
        with pytest.raises(RequestRefused) as refusal:
            await holder.rpc.request(leaf.hub.local, Changed(b"no record" * 20))
        assert refusal.value.code == FailureCode.MALFORMED_RECORD
        assert await is_silent(watched)
        assert leaf.dht.statistics().bad_records == 2
    assert leaf.dht.statistics().bad_records == 2


async def test_what_one_holder_may_make_us_verify_is_bounded(autojump_clock, network):
    config = DhtConfig(watches=WatchesConfig(notices_per_s=1.0, notices_burst=3.0))
    await grow(network, 6)
    leaf = await leaf_of(network, dht_config=config)
    async with leaf.dht.watch(KEY) as watched:
        await wait_watching(network)
        holder = next(n for n in network.nodes if n.hub.local in watched.holders)
        refused = 0
        for seq in range(1, 20):
            try:
                await holder.rpc.request(
                    leaf.hub.local, Changed(claim(network, seq).wire)
                )
            except RequestRefused:
                refused += 1
        assert refused >= 10


async def test_a_notice_that_was_lost_among_forged_ones_is_read_at_the_next_renewal(
    autojump_clock, network
):
    await grow(network, 6)
    leaf = await leaf_of(network)
    record = claim(network, 1)
    async with leaf.dht.watch(KEY) as watched:
        await wait_watching(network)

        async def use_up():
            while True:
                for holder in list(watched.holders):
                    while watched.may_notify(holder, trio.current_time()):
                        pass
                await trio.sleep(0.01)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(use_up)
            await network.nodes[3].dht.put(record)
            assert await is_silent(watched)
            nursery.cancel_scope.cancel()
        with trio.fail_after(200):
            assert await watched.__anext__() == record


async def test_slots_that_are_followed_are_bounded_and_expired_ones_make_room(
    autojump_clock, network
):
    config = DhtConfig(watches=WatchesConfig(max_slots=2))
    await grow(network, 6)
    leaf = await leaf_of(network, dht_config=config)
    async with leaf.dht.watch(KEY) as watched:
        for number in range(4):
            record = claim(network, 1, owner=f"owner {number}", lifetime_s=100)
            await network.nodes[3].dht.put(record)
        await next_of(watched)
        await next_of(watched)
        assert await is_silent(watched)
        await trio.sleep(200)
        await network.nodes[3].dht.put(claim(network, 1))
        assert (await next_of(watched)).owner == seeded_signing_key("anna").public


async def test_claims_of_strangers_do_not_keep_a_new_device_from_being_noticed(
    autojump_clock, network
):
    wall_now = network.wall_clock()
    location = certify_location(
        Identity(seeded_signing_key("anna")),
        signing=seeded_signing_key("location"),
        static=seeded_static_key("location"),
        name="desk",
        wall_now=wall_now,
        lifetime_s=10**6,
    )
    device = build_presence(location, (), wall_now=wall_now, lifetime_s=1000, seq=1)
    watched = Watched(device.key, network.wall_clock, WatchesConfig())
    for number in range(100):
        junk = claim(network, 1, owner=f"owner {number}", key=device.key)
        watched.take_untrusted([junk.wire])
    watched.take_untrusted([device.wire])
    told = [await next_of(watched) for _ in range(33)]
    assert told[-1] == device
    assert await is_silent(watched)


async def test_more_watches_than_the_limit_are_refused_by_name(autojump_clock, network):
    config = DhtConfig(watches=WatchesConfig(max_watches=1))
    await grow(network, 2)
    leaf = await leaf_of(network, dht_config=config)
    async with leaf.dht.watch(KEY):
        with pytest.raises(LocalProtocolError, match="1 watches"):
            async with leaf.dht.watch(claim_key("other")):
                pass


async def test_a_node_that_knows_nobody_tries_again_ever_more_slowly(
    autojump_clock, network
):
    await grow(network, 1)
    lonely = await network.add(leaf=True, maintained=True)
    async with lonely.dht.watch(KEY) as watched:
        await trio.sleep(1)
        await lonely.dht.join([network.nodes[0].hub.local])
        await network.nodes[0].dht.put(claim(network, 1))
        with trio.fail_after(30):
            assert (await watched.__anext__()).seq == 1
        lookups = lonely.dht.statistics().lookups
        await trio.sleep(3600)
        assert lonely.dht.statistics().lookups - lookups < 60


class StrictNat:
    """In front of one node: lets in only who was sent to in the last 30 seconds."""

    def __init__(self, node):
        self.sent_at = {}
        self.kept_out = 0
        send, receive = node.hub.send, node.hub.rpc_handler

        def send_out(data, destination, *rest, **options):
            self.sent_at[destination] = trio.current_time()
            return send(data, destination, *rest, **options)

        def let_in(data, source):
            if trio.current_time() - self.sent_at.get(source, -99) <= 30:
                receive(data, source)
            else:
                self.kept_out += 1

        node.hub.send, node.hub.rpc_handler = send_out, let_in


@pytest.mark.parametrize("is_known", [True, False])
async def test_behind_a_strict_nat_notices_come_in_because_renewals_keep_it_open(
    autojump_clock, network, is_known
):
    await grow(network, 8)
    leaf = await leaf_of(network)
    nat = StrictNat(leaf)
    leaf.dht.watch_behind_nat(lambda: is_known)
    # Each put goes to all, so that only the NAT decides what arrives.
    owner, heard = network.nodes[3], []
    async with leaf.dht.watch(KEY) as watched:
        await wait_watching(network, 2)
        for seq in range(1, 20):
            await trio.sleep(47)
            await owner.dht.put(claim(network, seq))
            with trio.move_on_after(1):
                heard.append((await watched.__anext__()).seq)
    if is_known:
        assert heard == list(range(1, 20))
    else:
        # The NAT is real: who does not know of it misses most.
        assert len(heard) < 10
        assert nat.kept_out > 0


async def test_who_keeps_few_nat_mappings_has_servers_find_the_holders(
    autojump_clock, network
):
    frugal = DhtConfig(delegation=DelegationConfig(few_bindings=True))
    await grow(network, 40)
    leaf = await leaf_of(network, dht_config=frugal)
    leaf.dht.watch_behind_nat(lambda: True)
    queries = leaf.dht.statistics().queries
    async with leaf.dht.watch(KEY) as watched:
        await wait_watching(network, 2)
        assert leaf.dht.statistics().queries == queries
        await network.nodes[3].dht.put(claim(network, 1))
        assert (await next_of(watched)).seq == 1
