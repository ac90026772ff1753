"""A NAT in user space takes another port while data flows over real sockets."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.drivers.connection_paths import Path, PathKind
from opnode.drivers.connection_table import ConnectionTable
from opnode.drivers.connections import Connection
from opnode.drivers.network.network import SystemNetwork
from opnode.drivers.socket_hub import SocketHub
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.connection import RudpConnection
from opnode.testing.linked import seeded_certificate, transport_keys

pytestmark = pytest.mark.integration

LOOPBACK = ("127.0.0.1", 0)
SIZE = 2 << 20


class Nat:
    """Forwards between an inner and an outer socket; forgets its outer port at will."""

    def __init__(self, nursery: trio.Nursery, inside: Endpoint, outside: Endpoint):
        self.carried = 0
        self._nursery = nursery
        self._inside, self._outside = inside, outside
        self._outward = trio.CancelScope()

    async def start(self) -> None:
        self.inner = await udp_socket()
        self._nursery.start_soon(self._forward_out)
        await self.rebind()

    async def rebind(self) -> Endpoint:
        """Take another outer port; what is sent to the old one is lost."""
        self._outward.cancel()
        self.outer = await udp_socket()
        self._outward = trio.CancelScope()
        self.carried = 0
        self._nursery.start_soon(self._forward_in, self.outer, self._outward)
        return endpoint_of(self.outer)

    async def _forward_out(self) -> None:
        with self.inner:
            while True:
                data, _ = await self.inner.recvfrom(1 << 16)
                self.carried += len(data)
                await self.outer.sendto(data, self._outside)

    async def _forward_in(
        self, outer: trio.socket.SocketType, scope: trio.CancelScope
    ) -> None:
        with outer, scope:
            while True:
                data, _ = await outer.recvfrom(1 << 16)
                self.carried += len(data)
                await self.inner.sendto(data, self._inside)


async def udp_socket() -> trio.socket.SocketType:
    socket = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 1 << 20)
    await socket.bind(LOOPBACK)
    return socket


def endpoint_of(socket: trio.socket.SocketType) -> Endpoint:
    return Endpoint(*socket.getsockname())


@asynccontextmanager
async def two_ends_and_a_nat() -> AsyncIterator[tuple[Connection, Connection, Nat]]:
    """The first connection is behind the NAT."""
    network = SystemNetwork()
    # A forwarder in Python drops much when packets come in large bursts.
    config = RudpConfig(max_window=256 * 1024, max_packet_size=1200)
    async with trio.open_nursery() as nursery:
        hubs: list[SocketHub] = []
        connections: list[Connection] = []
        for index, keys in enumerate(transport_keys()):
            hub = SocketHub(await network.bind(Endpoint(*LOOPBACK)))
            table = ConnectionTable(hub)
            await nursery.start(hub.run)
            await nursery.start(table.run)
            rudp = RudpConnection(
                initiator=index == 0, keys=keys, config=config, rng=random.Random(index)
            )
            hubs.append(hub)
            connections.append(table.open(rudp, seeded_certificate(str(index))))
        nat = Nat(nursery, hubs[0].local, hubs[1].local)
        await nat.start()
        for connection, other in zip(connections, (nat.inner, nat.outer), strict=True):
            connection.set_path(Path(PathKind.DIRECT, endpoint_of(other)), rtt_s=0.01)
        yield connections[0], connections[1], nat
        for hub in hubs:
            hub.close()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("sender", ["behind the NAT", "outside"])
async def test_a_transfer_goes_on_when_a_nat_takes_another_port(sender):
    content = random.Random(1).randbytes(SIZE)
    received = bytearray()
    async with two_ends_and_a_nat() as (first, second, nat), trio.open_nursery() as n:
        source, sink = (first, second) if sender != "outside" else (second, first)

        async def send() -> None:
            channel = await source.open_channel()
            await channel.send_all(content)
            await channel.send_eof()

        n.start_soon(send)
        with trio.fail_after(30):
            channel = await sink.accept_channel()
            moved_to: Endpoint | None = None
            async for piece in channel:
                received += piece
                if moved_to is None and len(received) > SIZE // 4:
                    moved_to = await nat.rebind()
    assert received == content
    assert second.path is not None
    assert second.path.endpoint == moved_to
    assert nat.carried > SIZE // 2
    assert second.paths()[0].endpoint == moved_to
