"""A flood of ids that want a place in one node's table.

Owns the flooders' datagrams: requests from addresses that nobody has, or from fresh
addresses that answer once. Refuses to know what the flooded node makes of them.
"""

import random
from typing import Final

import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import RemoteProtocolError
from opnode.core.ids import NODE_ID_SIZE, NodeId, node_id_of
from opnode.protocols.rpc.datagrams import (
    REQUEST_TYPE,
    Sender,
    decode_reply_untrusted,
    decode_request_untrusted,
    encode_reply,
    encode_request,
    largest_reply,
)
from opnode.protocols.rpc.messages import FindNode, Ping, Pong
from opnode.testing.dht_nodes import DhtNetwork, DhtNode
from opnode.testing.virtual_socket import VirtualSocket

_BATCH: Final = 100
"""Ids that ask at the same time."""
_PAUSE_S: Final = 0.3
"""More than the slowest round trip of the simulated wires."""
_FIRST_PORT: Final = 1024
_PORTS: Final = 60_000
_NO_TOKEN: Final = b""


class _Flooder:
    """One id at one address."""

    def __init__(self, sender: Sender, socket: VirtualSocket, target: Endpoint) -> None:
        self._sender = sender
        self._socket = socket
        self._target = target
        self._token = b""

    def ask(self, rng: random.Random) -> None:
        """Send a request that pays for being looked at; with our token, if any."""
        body = FindNode(rng.randbytes(NODE_ID_SIZE))
        size = 0 if self._token else largest_reply(body, self._target)
        data = encode_request(self._sender, rng.randbytes(8), self._token, body, size)
        self._socket.send(data, self._target)

    def answer(self) -> None:
        """Read what came: keep tokens, answer pings like a good node."""
        while (received := self._socket.receive()) is not None:
            size = received.segment_size
            whole = bytes(received.buffer)
            for start in range(0, len(whole), size):
                self._take(whole[start : start + size])

    def close(self) -> None:
        """Go away without a word."""
        self._socket.close()

    def _take(self, data: bytes) -> None:
        network = self._sender.network
        try:
            if data[0] != REQUEST_TYPE:
                self._token = decode_reply_untrusted(data, network).token
                return
            request = decode_request_untrusted(data, network)
        except RemoteProtocolError:
            return
        if isinstance(request.body, Ping):
            transaction_id = request.transaction_id
            reply = encode_reply(
                self._sender, transaction_id, _NO_TOKEN, self._target, Pong()
            )
            self._socket.send(reply, self._target)


async def flood_forged(network: DhtNetwork, target: DhtNode, count: int) -> None:
    """Ask a node in the name of so many ids at addresses where nobody is."""
    rng = network.rng
    for number in range(count):
        sender, source = _stranger(network, target, number)
        body = FindNode(rng.randbytes(NODE_ID_SIZE))
        size = largest_reply(body, source)
        data = encode_request(sender, rng.randbytes(8), _NO_TOKEN, body, size)
        network.network.carry(data, source, target.hub.local)
        if number % _BATCH == _BATCH - 1:
            await trio.sleep(_PAUSE_S)
    await trio.sleep(_PAUSE_S)


async def flood_fresh(network: DhtNetwork, target: DhtNode, count: int) -> None:
    """Ask a node from so many ids that prove their addresses, answer, and go away."""
    for first in range(0, count, _BATCH):
        batch = []
        for number in range(first, min(first + _BATCH, count)):
            sender, source = _stranger(network, target, number)
            socket = network.network.attach(source.host, source.port)
            batch.append(_Flooder(sender, socket, target.hub.local))
        # Once to be given a token, once with it, and once more to be pinged.
        for _ in range(3):
            for flooder in batch:
                flooder.ask(network.rng)
            await trio.sleep(_PAUSE_S)
            for flooder in batch:
                flooder.answer()
        await trio.sleep(_PAUSE_S)
        for flooder in batch:
            flooder.answer()
            flooder.close()


def _stranger(
    network: DhtNetwork, target: DhtNode, number: int
) -> tuple[Sender, Endpoint]:
    """An id that fits an address which nobody else has."""
    host = network.next_address()
    source = Endpoint(host, _FIRST_PORT + number % _PORTS)
    node_id: NodeId = node_id_of(network.rng.randbytes(32), host)
    return Sender(target.rpc.network_id, node_id, leaf=False), source
