"""Rpcs and raw sockets on one virtual network, for the tests of this directory."""

import random

import trio

from opnode.core.addresses import Endpoint
from opnode.core.ids import NodeId, node_id_of
from opnode.drivers.rpc.config import RpcConfig
from opnode.drivers.rpc.rpc import Rpc
from opnode.drivers.socket_hub import SocketHub
from opnode.protocols.rpc.datagrams import (
    Sender,
    decode_reply_untrusted,
    encode_request,
)
from opnode.protocols.rpc.messages import (
    MAIN_NETWORK,
)
from opnode.testing.keys import seeded_signing_key
from opnode.testing.virtual_network import Link, VirtualNetwork

STRANGER = NodeId(b"s" * 20)
SENDER = Sender(MAIN_NETWORK, STRANGER, leaf=False)
CONTACTS = (bytes(20) + b"\x0a\x00\x00\x01\x10\x00",) * 20
LATENCY_S = 0.05


class Net:
    """Rpcs and a raw socket on one virtual network."""

    def __init__(self, nursery, latency_s=LATENCY_S, loss=0.0):
        link = Link(latency_s=(latency_s, latency_s), loss=loss)
        self.network = VirtualNetwork(random.Random(1), link)
        self.nursery = nursery

    async def rpc(self, number, *, leaf=False, **limits):
        host = self.network.host(f"10.0.0.{number}")
        hub = SocketHub(await host.bind(Endpoint(host.address, 4000)))
        key = seeded_signing_key(f"rpc {number}")
        rpc = Rpc(
            hub,
            node_id=node_id_of(key.public, host.address),
            leaf=leaf,
            signing_key=key,
            rng=random.Random(number),
            config=RpcConfig(**limits),
        )
        await self.nursery.start(hub.run)
        await self.nursery.start(rpc.run)
        return rpc

    async def raw(self, number=99):
        host = self.network.host(f"10.0.0.{number}")
        return RawSocket(await host.bind(Endpoint(host.address, 4000)))


class Deaf:
    """A listener that does not care."""

    def answered(self, answer):
        pass

    def slow(self):
        pass

    def failed(self, error):
        pass


class RawSocket:
    """A socket that takes apart the runs which arrive as one."""

    def __init__(self, socket):
        self._socket = socket
        self._waiting = []
        self.local = socket.local
        self.send = socket.send

    async def next(self):
        """The next datagram and its source."""
        while not self._waiting:
            await self._socket.wait_readable()
            received = self._socket.receive()
            if received is not None:
                data, size = bytes(received.buffer), received.segment_size
                self._waiting += [
                    (data[at : at + size], received.source)
                    for at in range(0, len(data), size)
                ]
        return self._waiting.pop(0)


async def receive(socket, within_s=1.0):
    """The next datagram, or None when none comes."""
    with trio.move_on_after(within_s):
        data, _ = await socket.next()
        return data
    return None


async def ask_raw(socket, rpc, data):
    socket.send(data, rpc.local)
    answer = await receive(socket)
    return decode_reply_untrusted(answer, MAIN_NETWORK) if answer else None


def request_bytes(body, token=b"", size=0, transaction=b"12345678"):
    return encode_request(SENDER, transaction, token, body, size)


class Plug:
    """A carrier whose other end is another hub, where it comes from ``name``."""

    def __init__(self, hub, name):
        self.hub, self.name = hub, name
        self.carried = 0

    def send(self, data, _destination, segment_size):
        step = segment_size or len(data)
        for at in range(0, len(data), step):
            self.carried += 1
            self.hub.deliver_untrusted(bytes(data[at : at + step]), self.name)
        return True


def plug(client, server, seen_at):
    """Let what the client sends to the server leave by a carrier, and come back."""
    back = Plug(client._station.hub, server.local)
    name = server._station.hub.add_carrier(back, seen_at)
    there = Plug(server._station.hub, name)
    client._station.hub.divert(server.local, there)
    return name, there
