"""Random and mutated datagrams to the ports of running nodes."""

import gc
import os
import random
import socket
import struct
from pathlib import Path

import pytest
import trio

from opnode.protocols.rpc.datagrams import (
    REPLY_TYPE,
    Sender,
    encode_request,
)
from opnode.protocols.rpc.messages import (
    MAIN_NETWORK,
    FindNode,
    FindValue,
    Introduce,
    Offer,
    Ping,
    Register,
    Store,
)
from opnode.testing.overlay import entry_of, open_seed, open_user

pytestmark = [pytest.mark.integration, pytest.mark.slow]

DATAGRAMS = 120_000
BATCH = 100
REMEMBERED = 5000
SENDER = Sender(MAIN_NETWORK, bytes(range(20)), False)
BODIES = (
    Ping(),
    Ping(b"n" * 32),
    FindNode(bytes(20)),
    FindValue(bytes(20)),
    FindValue(bytes(20), 16),
    Store(b"r" * 300),
    Register(b"h" * 16, 300, 1, b"k" * 32, b"s" * 64),
    Introduce(b"h" * 16, 10, b"x" * 400),
    Offer(b"h" * 16, b"x" * 400),
)
STUN = struct.pack("!HHI12s", 1, 8, 0x2112A442, b"t" * 12) + b"\x00\x06\x00\x04ab:c"
RUDP = b"\xe0" + bytes(8) + bytes(40)


class Hostile:
    """A socket that sends nonsense and weighs what comes back."""

    def __init__(self, rng):
        self._rng = rng
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self._sizes = {}
        self._older = {}
        self.amplified = []
        self.replies = 0
        self.bytes_sent = 0
        self.bytes_received = 0

    def send(self, target):
        data = self._datagram()
        self._sizes[data[9:17]] = max(self._sizes.get(data[9:17], 0), len(data))
        self.bytes_sent += len(data)
        self._socket.sendto(data, tuple(target))

    def weigh(self):
        while True:
            try:
                reply = self._socket.recv(65_536)
            except BlockingIOError:
                break
            self.bytes_received += len(reply)
            # The rest are PINGs that check a stranger's address; the total counts them.
            if reply[0] == REPLY_TYPE:
                self.replies += 1
                if len(reply) > self._size_of(reply[9:17]):
                    self.amplified.append(reply)
        if len(self._sizes) > REMEMBERED:
            self._older, self._sizes = self._sizes, {}

    def _size_of(self, transaction_id):
        sizes = (self._sizes, self._older)
        return max(known.get(transaction_id, 0) for known in sizes)

    def close(self):
        self._socket.close()

    def _datagram(self):
        rng = self._rng
        kind = rng.randrange(10)
        if kind == 0:
            return rng.randbytes(rng.randrange(1, 1400))
        if kind == 1:
            first = bytes([rng.choice((0, 1, 3, 64, 79, 0xC0, 0xC1, 0xCF, 0xE0, 255))])
            return first + rng.randbytes(rng.randrange(0, 1400))
        if kind == 2:
            return self._mutated(STUN)
        if kind == 3:
            return self._mutated(RUDP)
        size = rng.choice((0, 0, 200, 1232))
        data = encode_request(
            SENDER, rng.randbytes(8), b"", rng.choice(BODIES), minimum_size=size
        )
        return data if kind == 4 else self._mutated(data)

    def _mutated(self, data):
        rng = self._rng
        changed = bytearray(data)
        for _ in range(rng.randrange(1, 6)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        if rng.random() < 0.3:
            del changed[rng.randrange(1, len(changed)) :]
        return bytes(changed) or b"\0"


def resident_bytes():
    gc.collect()
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGESIZE")


def received_by(nodes):
    return sum(n.statistics().traffic.socket.datagrams_in for n in nodes)


async def attack(hostile, nodes, count):
    sent = 0
    expected = received_by(nodes)
    while sent < count:
        for node in nodes:
            for _ in range(BATCH):
                hostile.send(node.endpoint)
            # The kernel drops what a node has not read; none of it may be spared.
            expected += BATCH
            while received_by(nodes) < expected:
                await trio.lowlevel.checkpoint()
        sent += BATCH * len(nodes)
        hostile.weigh()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads Linux's /proc")
async def test_no_datagram_breaks_a_node_or_draws_more_than_it_cost():
    async with (
        open_seed() as seed,
        open_user([entry_of(seed)]) as alice,
        open_user([entry_of(seed)]) as bob,
    ):
        hostile = Hostile(random.Random(20))
        nodes = (seed, alice)
        try:
            await attack(hostile, nodes, DATAGRAMS // 3)
            before = resident_bytes()
            await attack(hostile, nodes, DATAGRAMS)
            after = resident_bytes()
        finally:
            hostile.close()
        for node in nodes:
            traffic = node.statistics().traffic
            assert traffic.handler_errors == 0
            assert traffic.socket.datagrams_in > DATAGRAMS // 2
        assert hostile.replies > 1000
        assert hostile.amplified == []
        assert hostile.bytes_received <= hostile.bytes_sent
        assert after - before < 4e6
        assert len(seed.contacts()) <= 3
        with trio.fail_after(20):
            assert await (await alice.connect(bob.peer_id)).ping() > 0
