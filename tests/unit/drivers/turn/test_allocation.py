import random
from collections.abc import AsyncIterator

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.abc import Clock

from opnode.core.addresses import Endpoint
from opnode.drivers.turn.allocation import TurnConfig
from opnode.drivers.turn.turn import TurnServer, TurnTransport
from opnode.testing.clock import run_deterministic
from opnode.testing.turn_server import FakeTurnServer
from opnode.testing.virtual_network import Link, VirtualNetwork
from tests.turn_contract import (
    Node,
    candidate,
    exchanged,
    next_datagram,
    rudp,
    running_node,
)

SERVER = Endpoint("10.0.0.9", 3478)
GIVEN = TurnServer(
    host=SERVER.host,
    port=SERVER.port,
    transport=TurnTransport.UDP,
    username="me",
    password="secret",  # noqa: S106 - of the fake
)


class World:
    """A node with an allocation, its server, and a peer's socket elsewhere."""

    def __init__(self) -> None:
        self.network = VirtualNetwork(random.Random(1), Link(latency_s=(0.02, 0.02)))
        self.fake = FakeTurnServer(
            self.network.host(SERVER.host),
            SERVER,
            username="me",
            password="secret",  # noqa: S106 - of the fake
            rng=random.Random(2),
            nonce_s=10.0,
        )
        self.node: Node


@pytest.fixture
async def world(autojump_clock: Clock, nursery: trio.Nursery) -> AsyncIterator[World]:
    world = World()
    await nursery.start(world.fake.run)
    config = TurnConfig(max_permissions=3, max_peers=3)
    host = world.network.host("10.0.0.1")
    async with running_node(host, "10.0.0.1", GIVEN, config=config) as world.node:
        await world.node.wait_relayed()
        yield world


async def peer_of(world: World, host: str = "10.0.0.2", port: int = 7000):
    return await world.network.host(host).bind(Endpoint(host, port))


async def test_a_peer_is_let_through_for_an_hour_though_permissions_last_five_minutes(
    world: World,
    autojump_clock: Clock,
):
    peer = await peer_of(world)
    world.node.turn.open_way([candidate(peer.local)])
    for minute in range(0, 60, 3):
        await exchanged(world.node, peer, b"minute %d" % minute)
        await trio.sleep(180)
    assert world.fake.counts().allocations == 1
    assert world.fake.counts().stale_nonces > 20


async def test_a_silent_peer_is_still_let_through_after_an_hour(
    world: World, autojump_clock: Clock
):
    peer = await peer_of(world)
    world.node.turn.open_way([candidate(peer.local)])
    await trio.sleep(3600)
    await exchanged(world.node, peer, b"still there?")


async def test_a_way_that_was_closed_lets_nobody_through_five_minutes_later(
    world: World,
    autojump_clock: Clock,
):
    peer = await peer_of(world)
    way = world.node.turn.open_way([candidate(peer.local)])
    await exchanged(world.node, peer, b"hello")
    way.close()
    way.close()
    await trio.sleep(600)
    world.node.heard.datagrams.clear()
    assert world.node.turn.relayed is not None
    peer.send(rudp(b"again"), world.node.turn.relayed)
    await trio.sleep(1)
    assert world.node.heard.datagrams == []
    assert world.node.turn.statistics().allocation.permissions == 0


async def test_two_ways_to_one_host_are_both_needed_until_closed(
    world: World, autojump_clock: Clock
):
    peer = await peer_of(world)
    one, other = (world.node.turn.open_way([candidate(peer.local)]) for _ in range(2))
    one.close()
    await trio.sleep(600)
    await exchanged(world.node, peer, b"hello")
    other.close()
    assert world.node.turn.statistics().allocation.permissions == 0


async def test_a_peer_behind_a_symmetric_nat_is_heard_from_any_port(
    world: World, autojump_clock: Clock
):
    told = await peer_of(world, port=7000)
    used = await peer_of(world, port=7001)
    world.node.turn.open_way([candidate(told.local)])
    await exchanged(world.node, used, b"another port")
    assert world.node.hub.shown(world.node.heard.sources[-1]) == used.local


async def test_an_idle_peer_is_forgotten_and_what_is_sent_to_its_name_is_lost(
    world: World,
    autojump_clock: Clock,
):
    peer = await peer_of(world)
    world.node.turn.open_way([candidate(peer.local)])
    await exchanged(world.node, peer, b"hello")
    name = world.node.heard.sources[-1]
    assert world.node.turn.statistics().allocation.peers == 1
    await trio.sleep(600)
    assert world.node.turn.statistics().allocation.peers == 0
    assert world.node.hub.send(rudp(b"late"), name)
    await trio.sleep(1)
    assert peer.receive() is None


async def test_peers_beyond_the_limit_push_out_the_longest_unused(
    world: World, autojump_clock: Clock
):
    sockets = [await peer_of(world, port=7000 + n) for n in range(5)]
    world.node.turn.open_way([candidate(sockets[0].local)])
    for number, socket in enumerate(sockets):
        await exchanged(world.node, socket, b"%d" % number)
        await trio.sleep(1)
    statistics = world.node.turn.statistics().allocation
    assert statistics.peers == 3
    await exchanged(world.node, sockets[0], b"back")


async def test_permissions_beyond_the_limit_are_not_asked_for(
    world: World, autojump_clock: Clock
):
    ways = [
        world.node.turn.open_way([candidate(Endpoint(f"10.0.1.{n}", 1))])
        for n in range(5)
    ]
    assert world.node.turn.statistics().allocation.permissions == 3
    for way in ways:
        way.close()
    assert world.node.turn.statistics().allocation.permissions == 0


async def test_a_host_that_the_server_forbids_is_asked_for_now_and_then(
    world: World, autojump_clock: Clock
):
    world.fake.forbidden.add("10.0.0.2")
    peer = await peer_of(world)
    world.node.turn.open_way([candidate(peer.local)])
    await trio.sleep(60)
    assert 2 <= world.node.turn.statistics().allocation.failures <= 5
    world.fake.forbidden.clear()
    await trio.sleep(16)
    await exchanged(world.node, peer, b"hello")


async def test_only_packets_of_connections_and_checks_of_paths_pass(
    world: World, autojump_clock: Clock
):
    peer = await peer_of(world)
    world.node.turn.open_way([candidate(peer.local)])
    await exchanged(world.node, peer, b"hello")
    before = world.node.hub.statistics()
    check = b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12)
    for data in (b"\xc0" + bytes(40), b"\x40" + bytes(40), check):
        peer.send(data, world.node.turn.relayed)
    await trio.sleep(1)
    after = world.node.hub.statistics()
    assert (after.rpc, after.unknown) == (before.rpc, before.unknown)
    assert after.stun - before.stun <= 1 + 2  # and what the server answered
    assert world.node.turn.statistics().allocation.dropped == 2


async def test_data_from_a_host_that_nobody_let_through_is_dropped(
    world: World, autojump_clock: Clock
):
    """A server is not trusted to keep its own rules (RFC 8656 §11.4)."""
    stranger = await peer_of(world, host="10.0.0.7")
    lease = next(iter(world.fake._leases.values()))
    lease.permissions["10.0.0.7"] = trio.current_time() + 300
    stranger.send(rudp(b"hello"), world.node.turn.relayed)
    await trio.sleep(1)
    assert world.node.heard.datagrams == []
    assert world.node.turn.statistics().allocation.peers == 0


async def test_what_comes_before_the_channel_goes_by_indication(
    world: World, autojump_clock: Clock
):
    peer = await peer_of(world)
    way = world.node.turn.open_way([candidate(peer.local)])
    await trio.sleep(1)
    (name,) = way.endpoints()
    world.node.hub.send(rudp(b"first") + rudp(b"other"), name, 14)
    both = rudp(b"first") + rudp(b"other")
    assert await next_datagram(peer) == (both, world.node.turn.relayed)
    assert world.fake.counts().to_peers == 2


def test_no_message_of_the_server_raises():
    @settings(max_examples=20, deadline=None)
    @given(
        st.lists(st.binary(max_size=80), max_size=20),
        st.sampled_from([b"", b"\x40\x00", b"\x00\x17\x00\x08\x21\x12\xa4\x42"]),
    )
    def check(tails: list[bytes], head: bytes) -> None:
        async def run() -> None:
            world = World()
            async with trio.open_nursery() as nursery:
                await nursery.start(world.fake.run)
                host = world.network.host("10.0.0.1")
                async with running_node(host, "10.0.0.1", GIVEN) as node:
                    await node.wait_relayed()
                    for tail in tails:
                        world.fake._socket.send(head + tail, node.hub.local)
                    await trio.sleep(1)
                    assert node.hub.statistics().handler_errors == 0
                    assert node.turn.relayed is not None
                nursery.cancel_scope.cancel()

        run_deterministic(run, seed=1)

    check()
