"""The other process of the handshake benchmark: a crowd that calls, or that is idle.

Owns both programs and the lines that they exchange with the measuring process. Refuses
to know what is measured.

``callers N``: prints ``{"bootstrap": …}``; a line ``PEER COUNT`` makes N nodes connect
COUNT times in all, then prints ``{"failed": …, "first_failure": …}``.
``idle``: prints ``{"port": …}``; every line ``PORT FIRST STOP`` opens the responders of
connections FIRST to STOP - 1 towards that port, then prints ``{}``.

Both end with their input.
"""

import contextlib
import json
import random
import sys
import traceback
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field

import trio

import opnode
from benchmarks.figures import leaves
from benchmarks.neighbourhood import LOOPBACK, open_servers
from opnode.core.addresses import Endpoint
from opnode.core.peerfile import LocationCertificate, unpack_certificate_untrusted
from opnode.drivers.connection_paths import Path, PathKind
from opnode.drivers.connection_table import ConnectionTable
from opnode.drivers.connections import Connection
from opnode.drivers.network.network import SystemNetwork
from opnode.drivers.socket_hub import SocketHub
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.connection import RudpConnection
from opnode.testing.linked import seeded_certificate, transport_keys

INTRODUCERS = 4
ATTEMPT_S = 20.0


class IdleEnd:
    """The real socket, hub and table of a node, and keyed connections made for it.

    What the introduction and ICE would have left behind is made up from seeded keys.
    """

    def __init__(self, hub: SocketHub, table: ConnectionTable) -> None:
        """Hold what ``open_idle_end`` opened."""
        self.hub = hub
        self.table = table
        self._certificate = seeded_certificate("idle").pack()
        self._config = RudpConfig()
        self._rng = random.Random(1)

    def open(self, number: int, *, is_initiator: bool) -> Connection:
        """Enter connection ``number`` into the table."""
        rudp = RudpConnection(
            initiator=is_initiator,
            keys=transport_keys(f"idle {number}")[0 if is_initiator else 1],
            config=self._config,
            rng=self._rng,
        )
        return self.table.open(rudp, self._peer())

    def connect(self, connection: Connection, port: int) -> None:
        """Let it send to that port of this host."""
        endpoint = Endpoint(LOOPBACK.host, port)
        connection.set_path(Path(PathKind.DIRECT, endpoint), rtt_s=0.001)

    def _peer(self) -> LocationCertificate:
        """A value of its own for each connection, as every peer has."""
        return unpack_certificate_untrusted(self._certificate)


@contextlib.asynccontextmanager
async def open_idle_end() -> AsyncIterator[IdleEnd]:
    """Run hub and table on a real socket for the length of the block."""
    hub = SocketHub(await SystemNetwork().bind(LOOPBACK))
    table = ConnectionTable(hub)
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        await nursery.start(table.run)
        yield IdleEnd(hub, table)
        nursery.cancel_scope.cancel()
    hub.close()


@dataclass(slots=True)
class _Calls:
    """What the callers have left to do, and what went wrong."""

    left: int = 0
    failures: list[str] = field(default_factory=list)


async def call(callers: int) -> None:
    """Serve as introducers and callers until the input ends."""
    async with contextlib.AsyncExitStack() as stack:
        servers = await stack.enter_async_context(
            open_servers(INTRODUCERS, with_identity=frozenset())
        )
        invite = servers[0].invite()
        assert invite is not None
        nodes = [
            await stack.enter_async_context(_open_caller(number, invite))
            for number in range(callers)
        ]
        _say({"bootstrap": invite})
        async for peer, count in _lines():
            calls = _Calls(left=int(count))
            async with trio.open_nursery() as nursery:
                for node in nodes:
                    nursery.start_soon(_keep_calling, node, peer, calls)
            first = calls.failures[0] if calls.failures else ""
            _say({"failed": len(calls.failures), "first_failure": first})


@contextlib.asynccontextmanager
async def _open_caller(number: int, invite: str) -> AsyncIterator[opnode.OverlayNode]:
    """A node on an address of its own: introducers limit the calls of each address."""
    config = opnode.NodeConfig(
        listen=opnode.Endpoint(f"127.0.1.{number + 1}", 0),
        bootstrap=(opnode.BootstrapEntry.parse(invite),),
        role=opnode.Role.LEAF,
    )
    async with opnode.open_node(config) as node:
        await node.wait_published()
        yield node


async def _keep_calling(node: opnode.OverlayNode, peer: str, calls: _Calls) -> None:
    peer_id = opnode.parse_peer_id(peer)
    while calls.left > 0:
        calls.left -= 1
        try:
            with trio.fail_after(ATTEMPT_S):
                connection = await node.connect(peer_id)
                async with aclosing(connection):
                    await connection.ping()
        except (opnode.OpnodeError, trio.TooSlowError, trio.BrokenResourceError) as err:
            calls.failures.append(f"{type(err).__name__}: {err}")


async def be_idle() -> None:
    """Hold the responders of idle connections until the input ends."""
    async with open_idle_end() as end:
        _say({"port": end.hub.local.port})
        async for port, first, stop in _lines():
            for number in range(int(first), int(stop)):
                connection = end.open(number, is_initiator=False)
                end.connect(connection, int(port))
            _say({})


async def _lines() -> AsyncIterator[list[str]]:
    while line := await trio.to_thread.run_sync(
        sys.stdin.readline, abandon_on_cancel=True
    ):
        yield line.split()


def _say(value: dict[str, object]) -> None:
    print(json.dumps(value), flush=True)


def main() -> None:
    """Serve, and end with a readable account of what went wrong."""
    try:
        if sys.argv[1] == "idle":
            trio.run(be_idle)
        else:
            trio.run(call, int(sys.argv[2]))
    except BaseExceptionGroup as group:
        for leaf in leaves(group):
            traceback.print_exception(leaf)
        sys.exit(1)


if __name__ == "__main__":
    main()
