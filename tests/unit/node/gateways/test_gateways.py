"""`gateways`: UDP is given up when nobody answers, gone around, and taken up again."""

import contextlib
import random

import pytest
import trio
from trio.testing import memory_stream_pair

from opnode.core.addresses import Endpoint
from opnode.core.errors import NetworkError
from opnode.core.records import build_chunk
from opnode.drivers.websocket.client import GatewayTrust
from opnode.drivers.websocket.forwarding import Forwarding
from opnode.drivers.websocket.gateway import WebSocketGateway
from opnode.node.bootstrap import BootstrapEntry
from opnode.node.gateways.gateways import (
    LINGER_S,
    TRY_UDP_S,
    Gateway,
    GatewayKeeper,
    UdpState,
)
from opnode.node.network_watch import NetworkChange
from opnode.protocols.rpc.messages import Ping
from opnode.protocols.websocket import GatewayUrl
from opnode.testing.dht_nodes import DhtNetwork
from opnode.testing.keys import seeded_signing_key
from opnode.testing.virtual_network import Link

CLIENT_TCP = Endpoint("10.99.0.1", 50000)


class Site:
    """Servers, of which some are gateways, and one client that may lose UDP."""

    def __init__(self, network, client, gateways):
        self.network = network
        self.client = client
        self.gateways = gateways
        self.streams = {}
        self.changes = 0
        self.keeper = None

    @property
    def servers(self):
        return [node for node in self.network.nodes if node is not self.client]

    def block(self):
        here = [self.client.hub.local.host]
        there = [node.hub.local.host for node in self.servers]
        self.network.network.partition(here, there)

    def unblock(self):
        self.network.network.heal()

    async def dial(self, host, port):
        await trio.sleep(0.02)
        gateway = self.gateways.get((host, port))
        if gateway is None:
            raise OSError("connection refused")
        near, far = memory_stream_pair()
        self.streams.setdefault(host, []).append(far)
        self.network.nursery.start_soon(gateway.serve, far, CLIENT_TCP)
        return near

    async def lose(self, host):
        """Let a gateway's machine go down for clients."""
        self.gateways.pop((host, 80))
        for stream in self.streams.pop(host, []):
            await trio.aclose_forcefully(stream)

    async def provoke(self, within_s=20.0):
        """Ask somebody, as a node does now and then, until the state changes."""
        before = self.keeper.statistics().state
        with trio.fail_after(within_s):
            while self.keeper.statistics().state is before:
                await self.client.dht.join([self.servers[0].hub.local])
                await trio.sleep(0.5)

    @property
    def state(self):
        return self.keeper.statistics().state

    def udp_heard(self):
        return self.client.hub.statistics().socket.datagrams_in


@pytest.fixture
async def site(autojump_clock, nursery):
    network = DhtNetwork(nursery, 1, Link(latency_s=(0.01, 0.02)))
    await network.grow(5)
    gateways = {}
    for node in network.nodes[:3]:
        gateway = WebSocketGateway(node.hub, node.rpc.network_id)
        gateways[node.hub.local.host, 80] = gateway
        await nursery.start(Forwarding(node.rpc).run)
    client = await network.add(leaf=True)
    network.maintain()
    made = Site(network, client, gateways)
    made.keeper = keeper = GatewayKeeper(
        hub=client.hub,
        rpc=client.rpc,
        dht=client.dht,
        network=network.network.host(client.hub.local.host),
        entries=[entry(network, number) for number in range(3)],
        rng=random.Random(1),
        trust=GatewayTrust(),
        dial=made.dial,
    )

    def changed():
        made.changes += 1

    keeper.on_change = changed
    nursery.start_soon(keeper.run)
    yield made
    network.close()


def entry(network, number, key=None):
    node = network.nodes[number]
    host, port = node.hub.local
    pinned = key or seeded_signing_key(f"node 1 {number + 1}").public
    return BootstrapEntry(pinned, host, port, GatewayUrl("ws", host, 80))


async def test_a_node_that_never_heard_anything_is_around_within_seconds(
    autojump_clock, site
):
    site.block()
    started_at = trio.current_time()
    await site.provoke()
    await trio.sleep(started_at + 6.0 - trio.current_time())
    assert site.state is UdpState.AROUND
    await trio.sleep(3.0)
    seen = site.keeper.statistics()
    assert (len(seen.held), seen.known, seen.blocked) == (2, 3, 1)
    assert set(site.client.rpc.detour.gateways) == {
        contact.endpoint for contact in site.keeper.held
    }
    assert site.client.dht.contacts()
    assert site.udp_heard() == 0


async def test_records_are_stored_and_found_without_one_datagram_of_udp(
    autojump_clock, site
):
    site.block()
    await site.provoke()
    await trio.sleep(5.0)
    record = build_chunk(b"by WebSocket", int(site.network.wall_clock()) + 10**6)
    assert await site.client.dht.put(record) >= 3
    holders = [n for n in site.servers if n.store.records(record.key, 0.0)]
    assert len(holders) >= 3
    other = build_chunk(b"of another", int(site.network.wall_clock()) + 10**6)
    await site.servers[4].dht.put(other)
    found = await site.client.dht.find_first(other.key, lambda _: True)
    assert found == [other]
    assert site.udp_heard() == 0


async def test_one_silent_node_is_no_blocked_network(autojump_clock, site):
    await site.client.dht.join([site.servers[0].hub.local])
    await trio.sleep(30.0)
    with contextlib.suppress(NetworkError):
        await site.client.rpc.request(Endpoint("10.250.0.1", 9), Ping())
    await trio.sleep(10.0)
    assert site.state is UdpState.OPEN
    assert site.keeper.statistics().blocked == 0


async def test_udp_is_taken_up_again_before_the_websockets_are_closed(
    autojump_clock, site
):
    site.block()
    await site.provoke()
    await trio.sleep(5.0)
    site.unblock()
    await trio.sleep(TRY_UDP_S + 5.0 - 10.0)
    assert site.state is UdpState.OPEN
    assert site.client.rpc.detour.gateways == ()
    assert site.keeper.held == ()
    assert site.client.hub.carrier_of(site.servers[0].hub.local) is None
    clients = sum(g.statistics().clients for g in site.gateways.values())
    assert clients == 2
    await trio.sleep(LINGER_S + 5.0)
    assert sum(g.statistics().clients for g in site.gateways.values()) == 0
    await site.client.rpc.request(site.servers[1].hub.local, Ping())
    # And a second time, as on the way to work.
    site.block()
    await site.provoke()
    assert site.keeper.statistics().blocked == 2


async def test_another_network_is_a_reason_to_try_udp_at_once(autojump_clock, site):
    site.block()
    await site.provoke()
    await trio.sleep(2.0)
    site.unblock()
    site.keeper.network_changed(NetworkChange.SEEN_ELSEWHERE)
    await trio.sleep(1.0)
    assert site.state is UdpState.AROUND
    site.keeper.network_changed(NetworkChange.ADDRESSES)
    await trio.sleep(1.0)
    assert site.state is UdpState.OPEN


async def test_a_gateway_that_dies_is_replaced_while_the_other_goes_on(
    autojump_clock, site
):
    site.block()
    await site.provoke()
    await trio.sleep(3.0)
    first, second = site.keeper.held
    await site.lose(first.endpoint.host)
    await trio.sleep(0.01)
    assert second in site.keeper.held
    assert first not in site.keeper.held
    answer = await site.client.rpc.request(site.servers[4].hub.local, Ping())
    assert answer.contact.endpoint == site.servers[4].hub.local
    await trio.sleep(3.0)
    assert len(site.keeper.held) == 2
    assert first not in site.keeper.held


async def test_a_gateway_that_cannot_prove_its_key_is_not_used(autojump_clock, site):
    wrong = seeded_signing_key("another").public
    site.keeper._known.clear()
    host, port = site.servers[0].hub.local
    url = GatewayUrl("ws", host, 80)
    site.keeper.learn([Gateway(url, host, port, wrong)])
    site.block()
    await site.provoke(30.0)
    await trio.sleep(20.0)
    assert site.state is UdpState.BLOCKED
    assert "another node's key" in site.keeper.statistics().last_failure
    assert site.keeper.held == ()


def test_no_more_gateways_are_known_than_the_limit():
    keeper = GatewayKeeper(
        hub=None,
        rpc=None,
        dht=None,
        network=None,
        entries=(),
        rng=random.Random(1),
        trust=GatewayTrust(),
    )
    urls = [GatewayUrl("ws", f"10.0.0.{n}", 80) for n in range(40)]
    keeper.learn(Gateway(url, url.host, 1) for url in urls)
    assert [known.url for known in keeper.known()] == urls[:16]


async def test_a_relay_that_others_chose_is_reached_by_a_websocket_more(
    autojump_clock, site
):
    target = site.servers[2]
    host, port = target.hub.local
    site.keeper._known.popitem()
    asked = []

    async def look_up(endpoint):
        await trio.sleep(0.1)
        asked.append(endpoint)
        return Gateway(GatewayUrl("ws", host, 80), host, port)

    site.keeper.look_up = look_up
    site.keeper.reach(target.hub.local)
    assert asked == []
    site.block()
    await site.provoke()
    await trio.sleep(3.0)
    assert not site.client.rpc.detour.reaches(target.hub.local)
    for _ in range(3):
        site.keeper.reach(target.hub.local)
    await trio.sleep(1.0)
    assert asked == [target.hub.local]
    assert site.client.rpc.detour.reaches(target.hub.local)
    assert len(site.keeper.held) == 3


async def test_a_silent_peer_is_a_reason_to_look_and_not_to_leave_udp(
    autojump_clock, site
):
    await site.client.dht.join([site.servers[0].hub.local])
    sent = site.client.hub.statistics().socket.datagrams_out
    for _ in range(40):
        site.keeper.suspect()
        await trio.sleep(0.1)
    assert site.state is UdpState.OPEN
    # Six nodes are asked, and not all the time.
    assert site.client.hub.statistics().socket.datagrams_out - sent <= 2 * 6


async def test_a_suspicion_of_a_connection_is_enough(autojump_clock, site):
    await site.client.dht.join([site.servers[0].hub.local])
    site.block()
    began_at = trio.current_time()
    site.keeper.suspect()
    await trio.sleep(4.0)
    assert site.state is UdpState.AROUND
    assert trio.current_time() - began_at < 5.0
