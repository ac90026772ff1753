"""What our TURN client and any TURN server do together: the real one and the fake."""

# pytest-trio takes the clock of a test from its arguments.
# ruff: noqa: ARG002

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.abc import Clock

from opnode.core.addresses import Candidate, Endpoint
from opnode.drivers.asyncio_island import open_island
from opnode.drivers.network.network import Buffer, DatagramSocket, Network, segments_of
from opnode.drivers.socket_hub import SocketHub
from opnode.drivers.turn.allocation import TurnConfig
from opnode.drivers.turn.turn import TurnClient, TurnServer

CONNECTION = b"\x01" * 8
WAIT_S = 5.0


def rudp(payload: bytes) -> bytes:
    return b"\xe0" + CONNECTION + payload


def candidate(endpoint: Endpoint, kind: str = "srflx") -> Candidate:
    return Candidate(kind=kind, endpoint=endpoint, priority=1, foundation="1")


async def wait_until(condition: Callable[[], object]) -> None:
    """Look again and again, as a server gives no sign when it is done."""
    with trio.fail_after(WAIT_S):
        while not condition():  # noqa: ASYNC110 - as told
            await trio.sleep(0.05)


class Heard:
    """A connection's sink that remembers."""

    def __init__(self) -> None:
        self.datagrams: list[bytes] = []
        self.sources: list[Endpoint] = []

    def receive_run(
        self, buffer: memoryview, segment_size: int, source: Endpoint, ecn: int
    ) -> None:
        for part in segments_of(buffer, segment_size):
            self.datagrams.append(bytes(part)[9:])
            self.sources.append(source)

    def flush(self) -> None:
        pass


class Node:
    """A hub with a TURN client, and one connection on it."""

    def __init__(self, hub: SocketHub, turn: TurnClient) -> None:
        self.hub = hub
        self.turn = turn
        self.heard = Heard()
        hub.add_connection(CONNECTION, self.heard)

    async def wait_relayed(self) -> Endpoint:
        await wait_until(lambda: self.turn.relayed is not None)
        assert self.turn.relayed is not None
        return self.turn.relayed


@asynccontextmanager
async def running_node(
    network: Network,
    address: str,
    *servers: TurnServer,
    config: TurnConfig | None = None,
) -> AsyncIterator[Node]:
    hub = SocketHub(await network.bind(Endpoint(address, 0)))
    async with open_island() as island, trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        node = Node(hub, TurnClient(hub, island, network, servers, config=config))
        nursery.start_soon(node.turn.run)
        yield node
        nursery.cancel_scope.cancel()
    hub.close()


async def next_datagram(socket: DatagramSocket) -> tuple[bytes, Endpoint]:
    with trio.fail_after(WAIT_S):
        while (received := socket.receive()) is None:
            await socket.wait_readable()
    return bytes(received.buffer), received.source


async def exchanged(node: Node, peer: DatagramSocket, payload: bytes) -> list[Buffer]:
    """Send from the peer to the relayed address until it is heard, and answer."""
    relayed = node.turn.relayed
    assert relayed is not None
    node.heard.datagrams.clear()
    with trio.fail_after(WAIT_S):
        while payload not in node.heard.datagrams:
            peer.send(rudp(payload), relayed)
            await trio.sleep(0.1)
    node.hub.send(rudp(b"re: " + payload), node.heard.sources[-1])
    data, source = await next_datagram(peer)
    assert source == relayed
    return [data[9:]]


class TurnContract:
    """Subclasses give `network`, `address`, `server` (a TurnServer) and `clock`."""

    @pytest.fixture
    async def node(self, clock: Clock, network: Network, address: str, server):
        async with running_node(network, address, server) as node:
            yield node

    @pytest.fixture
    async def peer(self, clock: Clock, network: Network, address: str):
        socket = await network.bind(Endpoint(address, 0))
        yield socket
        socket.close()

    async def test_an_allocation_is_made_with_the_given_credentials(self, clock, node):
        relayed = await node.wait_relayed()
        status = node.turn.statistics()
        assert relayed.port != node.hub.local.port
        assert status.servers[0].is_in_use
        assert status.servers[0].reason is None

    async def test_a_peer_let_through_is_heard_and_hears_by_channel(
        self, clock, node, peer
    ):
        await node.wait_relayed()
        node.turn.open_way([candidate(peer.local)])
        for number in range(3):
            payload = b"%d" % number
            assert await exchanged(node, peer, payload) == [b"re: " + payload]

    async def test_a_host_without_permission_is_not_heard(self, clock, node, peer):
        relayed = await node.wait_relayed()
        peer.send(rudp(b"let me in"), relayed)
        await trio.sleep(0.5)
        assert node.heard.datagrams == []

    async def test_a_run_of_datagrams_arrives_as_datagrams(self, clock, node, peer):
        await node.wait_relayed()
        node.turn.open_way([candidate(peer.local)])
        await exchanged(node, peer, b"hello")
        await trio.sleep(0.5)
        sent = [rudp(bytes([n]) * 1191) for n in range(4)] + [rudp(b"end")]
        node.hub.send(b"".join(sent), node.heard.sources[-1], 1200)
        received: list[bytes] = []
        while len(received) < len(sent):
            data, _ = await next_datagram(peer)
            received += [bytes(part) for part in segments_of(data, 1200)]
        assert received == sent

    async def test_a_peer_is_reached_at_the_address_it_told(self, clock, node, peer):
        relayed = await node.wait_relayed()
        way = node.turn.open_way([candidate(peer.local)])
        await trio.sleep(0.5)
        (name,) = way.endpoints()
        node.hub.send(rudp(b"knock"), name)
        assert await next_datagram(peer) == (rudp(b"knock"), relayed)

    async def test_two_relayed_addresses_reach_each_other(
        self, clock, node, network, address, server
    ):
        await node.wait_relayed()
        async with running_node(network, address, server) as other:
            await other.wait_relayed()
            way = node.turn.open_way([candidate(other.turn.relayed, "relay")])
            other.turn.open_way([candidate(node.turn.relayed, "relay")])
            await trio.sleep(0.5)
            _, through = way.endpoints()
            node.hub.send(rudp(b"relay to relay"), through)
            await trio.sleep(0.5)
            assert other.heard.datagrams == [b"relay to relay"]

    async def test_wrong_credentials_are_told_as_the_reason(
        self, clock, network, address, server
    ):
        wrong = TurnServer(
            host=server.host,
            port=server.port,
            transport=server.transport,
            username=server.username,
            password="wrong",  # noqa: S106 - it is not the server's
        )
        async with running_node(network, address, wrong) as node:
            await wait_until(lambda: node.turn.statistics().servers[0].reason)
            assert "401" in str(node.turn.statistics().servers[0].reason)
            assert node.turn.relayed is None

    async def test_a_node_that_starts_again_on_its_port_gets_an_allocation(
        self, clock, network, address, server
    ):
        """RFC 8656 §7.2: the server still holds the one from before a crash."""
        hub = SocketHub(await network.bind(Endpoint(address, 0)))
        async with open_island() as island, trio.open_nursery() as nursery:
            await nursery.start(hub.run)
            before = TurnClient(hub, island, network, [server])
            crash = trio.CancelScope()

            async def run_until_crash() -> None:
                with crash:
                    await before.run()

            nursery.start_soon(run_until_crash)
            await wait_until(lambda: before.relayed)
            # What it says at its end does not get through.
            hub.divert(Endpoint(server.host, server.port), Void())
            crash.cancel()
            await trio.sleep(1.5)
            hub.remove_carrier(Endpoint(server.host, server.port))
            after = TurnClient(hub, island, network, [server])
            nursery.start_soon(after.run)
            await wait_until(lambda: after.relayed)
            nursery.cancel_scope.cancel()
        hub.close()


class Void:
    """A carrier that loses everything."""

    def send(self, data: Buffer, destination: Endpoint, segment_size: int) -> bool:
        return True
