"""A relay as people run it: a real `opnode seed --relay`, real sockets on loopback.

The two users' sockets drop whatever they would send each other, as two NATs do that let
nobody in.
"""

import json
import signal
import subprocess
import sys

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.drivers.connection_paths import PathKind
from opnode.drivers.network.network import DatagramSocket, SystemNetwork
from opnode.node.bootstrap import BootstrapEntry
from opnode.node.config import NodeConfig, Role
from opnode.node.node import open_node

pytestmark = pytest.mark.integration

ANY = Endpoint("127.0.0.1", 0)
LIMIT_S = 30


class Wall:
    """Addresses that do not reach each other."""

    def __init__(self):
        self.inside: set[Endpoint] = set()
        self.dropped = 0
        self.is_up = True


class WalledSocket:
    """A real socket that sends nothing to other ones behind the wall."""

    def __init__(self, socket: DatagramSocket, wall: Wall):
        self._socket, self._wall = socket, wall
        wall.inside.add(socket.local)

    def __getattr__(self, name):
        return getattr(self._socket, name)

    def send(self, data, destination, segment_size=0, ecn=0):
        if self._wall.is_up and destination in self._wall.inside:
            self._wall.dropped += 1
            return True
        return self._socket.send(data, destination, segment_size, ecn)


class WalledNetwork(SystemNetwork):
    """Binds such sockets."""

    def __init__(self, wall: Wall):
        super().__init__()
        self._wall = wall

    async def bind(self, endpoint):
        return WalledSocket(await super().bind(endpoint), self._wall)


@pytest.fixture
def relay(tmp_path):
    """A relay in a process of its own, and how to join through it."""
    words = ["seed", "--relay", "--relay-rate", "50MB", "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(  # noqa: S603 - our own program
        [
            *(sys.executable, "-m", "opnode", *words),
            *("--data", str(tmp_path / "relay"), "--json"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "ready":
            break
    yield event["invite"], tmp_path / "relay"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=LIMIT_S)


def status_of(data):
    ended = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "opnode", "status", "--json", "--data", str(data)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    return json.loads(ended.stdout)["node"]["relay"]


async def read_all(channel, size):
    got = bytearray()
    while len(got) < size:
        piece = await channel.receive_some(65536)
        assert piece
        got += piece
    return bytes(got)


async def test_two_who_cannot_reach_each_other_talk_through_a_real_relay(relay):
    invite, data = relay
    wall = Wall()
    config = NodeConfig(
        listen=ANY, bootstrap=(BootstrapEntry.parse(invite),), role=Role.LEAF
    )
    text = bytes(range(256)) * 4000
    with trio.fail_after(LIMIT_S):
        async with (
            open_node(config, network=WalledNetwork(wall)) as ann,
            open_node(config, network=WalledNetwork(wall)) as bob,
        ):
            await ann.wait_published()
            await bob.wait_published()
            ours = await ann.connect(bob.peer_id)
            theirs = await bob.accept_connection()
            channel = await ours.open_channel()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(channel.send_all, text)
                incoming = await theirs.accept_channel()
                assert await read_all(incoming, len(text)) == text
            assert ours.path.kind is theirs.path.kind is PathKind.RELAY
            assert str(ours.path.via) in invite
            assert wall.dropped > 0
            relayed = await trio.to_thread.run_sync(status_of, data)
            assert relayed["complete"] == 1
            assert relayed["bytes_relayed"] > len(text)
            wall.is_up = False
            # As a person who sees the door open: a new connection goes directly.
            await ours.aclose()
            again = await ann.connect(bob.peer_id)
            while again.path.kind is not PathKind.DIRECT:  # noqa: ASYNC110 - no event says it
                await trio.sleep(0.05)
