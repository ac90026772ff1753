import random

import pytest
import trio
from trio.abc import Clock

from opnode.core.addresses import Endpoint
from opnode.drivers.turn.turn import TurnServer, TurnTransport
from opnode.testing.turn_server import FakeTurnServer
from opnode.testing.virtual_network import Link, VirtualNetwork
from tests.turn_contract import candidate, exchanged, running_node

HOSTS = ("10.0.0.8", "10.0.0.9")


def server(
    host: str, transport: TurnTransport = TurnTransport.UDP, port: int = 3478
) -> TurnServer:
    return TurnServer(
        host=host,
        port=port,
        transport=transport,
        username="me",
        password="secret",  # noqa: S106 - of the fake
    )


class World:
    """Two TURN servers."""

    def __init__(self) -> None:
        self.network = VirtualNetwork(random.Random(1), Link(latency_s=(0.02, 0.02)))
        self.host = self.network.host("10.0.0.1")
        self.fakes = [
            FakeTurnServer(
                self.network.host(host),
                Endpoint(host, 3478),
                username="me",
                password="secret",  # noqa: S106 - of the fake
                rng=random.Random(2),
            )
            for host in HOSTS
        ]
        self.servers = tuple(map(server, HOSTS))


@pytest.fixture
async def world(autojump_clock: Clock, nursery: trio.Nursery) -> World:
    world = World()
    for fake in world.fakes:
        await nursery.start(fake.run)
    return world


def in_use(node) -> list[bool]:
    return [status.is_in_use for status in node.turn.statistics().servers]


async def test_one_allocation_is_made_on_the_first_server(
    world: World, autojump_clock: Clock
):
    async with running_node(world.host, "10.0.0.1", *world.servers) as node:
        assert (await node.wait_relayed()).host == HOSTS[0]
        await trio.sleep(60)
        assert in_use(node) == [True, False]
        assert [fake.counts().allocations for fake in world.fakes] == [1, 0]


async def test_a_server_that_is_dead_from_the_start_gives_way_to_the_next(
    world: World,
    autojump_clock: Clock,
):
    world.fakes[0].is_silent = True
    async with running_node(world.host, "10.0.0.1", *world.servers) as node:
        await trio.sleep(10)
        assert in_use(node) == [False, True]
        assert "does not answer" in str(node.turn.statistics().servers[0].reason)


async def test_a_server_that_was_restarted_is_asked_again_and_ways_stay(
    world: World, autojump_clock: Clock, nursery: trio.Nursery
):
    changes: list[Endpoint | None] = []
    async with running_node(world.host, "10.0.0.1", world.servers[0]) as node:

        async def follow() -> None:
            while True:
                await node.turn.wait_changed()
                changes.append(node.turn.relayed)

        nursery.start_soon(follow)
        first = await node.wait_relayed()
        peer = await world.network.host("10.0.0.2").bind(Endpoint("10.0.0.2", 7000))
        node.turn.open_way([candidate(peer.local)])
        await exchanged(node, peer, b"before")
        world.fakes[0].restart()
        await trio.sleep(140)
        second = await node.wait_relayed()
        assert changes == [first, None, second]
        await trio.sleep(1)
        await exchanged(node, peer, b"after")


async def test_a_server_that_was_restarted_during_a_call_is_missed_for_seconds_only(
    world: World, autojump_clock: Clock
):
    async with running_node(world.host, "10.0.0.1", world.servers[0]) as node:
        await node.wait_relayed()
        peer = await world.network.host("10.0.0.2").bind(Endpoint("10.0.0.2", 7000))
        node.turn.open_way([candidate(peer.local)])
        await trio.sleep(100)
        await exchanged(node, peer, b"before")
        world.fakes[0].restart()
        name = node.heard.sources[-1]
        for _ in range(10):
            node.hub.send(b"\xe0" + bytes(20), name)
            await trio.sleep(1)
        assert world.fakes[0].counts().allocations == 2
        await exchanged(node, peer, b"after")


async def test_servers_that_stay_dead_are_asked_ever_more_seldom(
    world: World, autojump_clock: Clock
):
    for fake in world.fakes:
        fake.is_silent = True
    async with running_node(world.host, "10.0.0.1", *world.servers) as node:
        await trio.sleep(1800)
        sent = world.network.statistics().sent
        await trio.sleep(3600)
        assert world.network.statistics().sent - sent <= 13 * 2 * 5
        world.fakes[1].is_silent = False
        await trio.sleep(320)
        assert in_use(node) == [False, True]


async def test_an_idle_allocation_costs_little(world: World, autojump_clock: Clock):
    async with running_node(world.host, "10.0.0.1", world.servers[0]) as node:
        await node.wait_relayed()
        await trio.sleep(1)
        before = world.network.statistics().sent
        await trio.sleep(3600)
        assert world.network.statistics().sent - before <= 210


async def test_a_name_is_resolved_and_one_that_does_not_resolve_is_told(
    world: World, autojump_clock: Clock
):
    world.network.add_name("turn.example", HOSTS[1])
    servers = (server("nowhere.example"), server("turn.example"))
    async with running_node(world.host, "10.0.0.1", *servers) as node:
        assert (await node.wait_relayed()).host == HOSTS[1]
        assert "does not resolve" in str(node.turn.statistics().servers[0].reason)


async def test_a_server_of_another_family_is_not_asked(
    world: World, autojump_clock: Clock
):
    async with running_node(world.host, "10.0.0.1", server("2001:db8::1")) as node:
        await trio.sleep(1)
        reason = str(node.turn.statistics().servers[0].reason)
    assert "another family" in reason


async def test_a_way_to_a_peer_with_a_relayed_address_begins_at_its_server(
    world: World,
    autojump_clock: Clock,
):
    theirs = Endpoint("10.0.0.77", 5000)
    async with running_node(world.host, "10.0.0.1") as node:
        way = node.turn.open_way([candidate(theirs, "relay")])
        assert way.endpoints() == (theirs,)
        way.close()
        assert node.turn.statistics().ways == 0


async def test_without_a_relayed_address_on_either_side_there_is_no_way(
    world: World, autojump_clock: Clock
):
    async with running_node(world.host, "10.0.0.1") as node:
        way = node.turn.open_way([candidate(Endpoint("10.0.0.2", 7000))])
        assert way.endpoints() == ()


async def test_addresses_that_come_later_are_let_through(
    world: World, autojump_clock: Clock
):
    async with running_node(world.host, "10.0.0.1", world.servers[0]) as node:
        await node.wait_relayed()
        way = node.turn.open_way([])
        peer = await world.network.host("10.0.0.2").bind(Endpoint("10.0.0.2", 7000))
        way.add([candidate(peer.local)])
        await trio.sleep(1)
        await exchanged(node, peer, b"hello")


async def test_a_peer_that_tells_of_ever_more_addresses_is_not_remembered_for_ever(
    world: World, autojump_clock: Clock
):
    async with running_node(world.host, "10.0.0.1", world.servers[0]) as node:
        await node.wait_relayed()
        way = node.turn.open_way([])
        for n in range(200):
            at = Endpoint(f"10.7.0.{n}", 7000)
            way.add([candidate(at, "relay"), candidate(at, "srflx")])
        assert node.turn.statistics().allocation.permissions == 32
        assert len(way._relayed) == len(way._seen) == len(way._hosts) == 32
        way.close()
        assert node.turn.statistics().allocation.permissions == 0


def test_a_server_is_written_as_its_url_and_never_with_its_password():
    one = server("2001:db8::1", TurnTransport.TCP)
    assert str(one) == "turn:[2001:db8::1]:3478?transport=tcp"
    assert "secret" not in repr(one)
