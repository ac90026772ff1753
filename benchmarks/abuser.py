"""The other processes of the abuse benchmark: an honest sender, and an attacker.

Owns both programs and what each kind of attack puts on the wire. Refuses to know what
is measured.

``sender PORT``: prints ``{"port": …}``; every line ``BYTES`` sends so many on a new
channel of connection 0. ``attacker``: prints ``{"port": …}``; a line ``KIND RATE NUMBER
PORT`` sends that many packets a second to that port, under the keys of connection
NUMBER, until the next line, then prints ``{"sent": …}``. Both end with their input.
"""

import json
import random
import select
import socket
import sys
import time
from collections.abc import Callable

import trio

from benchmarks.crowd import open_idle_end
from benchmarks.neighbourhood import LOOPBACK
from opnode.core.addresses import Endpoint
from opnode.protocols.rudp import frames, packet
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.connection import RudpConnection
from opnode.protocols.rudp.connection_ids import ConnectionIds
from opnode.testing.linked import transport_keys

HONEST = 0
"""The number of the honest sender's connection."""
BATCH_S = 0.002
FULL = packet.BASE_PACKET_SIZE - packet.OVERHEAD
WRITE_BYTES = 1 << 16


class Attack:
    """Packets of one peer that has the keys of one connection."""

    def __init__(self, udp: socket.socket, number: int) -> None:
        keys = transport_keys(f"idle {number}")[0]
        self.rudp = RudpConnection(
            initiator=True, keys=keys, config=RudpConfig(), rng=random.Random(number)
        )
        honest_keys = transport_keys(f"idle {HONEST}")[0]
        self.honest_id = ConnectionIds(honest_keys, of_initiator=False, ours=False)[0]
        self._udp = udp
        self._dice = random.Random(number)
        self._once = b""

    def seal(self, content: bytes) -> bytes:
        """One packet that authenticates."""
        return b"".join(self.rudp._sealer.seal(content))

    def hear(self) -> None:
        """Take in what the victim sent; an ACK must be proven."""
        while True:
            try:
                data = self._udp.recv(1 << 16)
            except BlockingIOError:
                return
            source = Endpoint("127.0.0.1", 1)
            self.rudp.receive_run(
                memoryview(data), len(data), source, time.perf_counter()
            )

    def replayed(self) -> bytes:
        """The same packet, again and again."""
        self._once = self._once or self.seal(frames.encode_ping(0))
        return self._once

    def acknowledged(self) -> bytes:
        """An ACK, with its proof, of what has been acknowledged before."""
        acks = self.rudp._acks
        if not len(acks.received):
            self.hear()
        if not len(acks.received):
            return self.seal(frames.encode_ping(0))
        return self.seal(acks.encode(time.perf_counter()))

    def forged(self) -> bytes:
        """Under the honest connection's id, which anybody on its path can read."""
        header = packet.pack_header(self.honest_id.prefix, self._dice.getrandbits(54))
        return header + bytes(1183)


Maker = Callable[[Attack, int], bytes]
MAKERS: dict[str, Maker] = {
    "junk": lambda _, index: b"\xe0" + index.to_bytes(8, "big") + bytes(1191),
    "forged": lambda attack, _: attack.forged(),
    "replay": lambda attack, _: attack.replayed(),
    "ping": lambda attack, _: attack.seal(frames.encode_ping(0)),
    "pings": lambda attack, _: attack.seal(frames.encode_ping(0) * (FULL // 5)),
    "padding": lambda attack, _: attack.seal(bytes(FULL)),
    "ack": lambda attack, _: attack.acknowledged(),
    "challenge": lambda attack, index: attack.seal(
        frames.encode_path_challenge(index.to_bytes(8, "big"))
    ),
    "key_share": lambda attack, index: attack.seal(
        frames.encode_key_share(index % 256, bytes(640))
    ),
    "byte": lambda attack, index: attack.seal(
        frames.encode_data(0, index, b"x", fin=False)
    ),
    "channel": lambda attack, index: attack.seal(
        frames.encode_data(2 * index, 0, b"x", fin=True)
    ),
}
"""What one packet of each kind of attack is, by its number."""


def attack() -> None:
    """Attack on command until the input ends."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    udp.setblocking(False)
    _say({"port": udp.getsockname()[1]})
    line = sys.stdin.readline()
    while line:
        kind, rate, number, port = line.split()
        target = ("127.0.0.1", int(port))
        one, make = Attack(udp, int(number)), MAKERS[kind]
        sent, started_at = 0, time.perf_counter()
        while not select.select([sys.stdin], [], [], BATCH_S)[0]:
            due = int((time.perf_counter() - started_at) * int(rate))
            while sent < due:
                try:
                    udp.sendto(make(one, sent), target)
                except BlockingIOError:
                    break
                sent += 1
            one.hear()
        sys.stdin.readline()
        _say({"sent": sent})
        line = sys.stdin.readline()


async def send(victim_port: int) -> None:
    """Send on command until the input ends."""
    block = random.Random(1).randbytes(WRITE_BYTES)
    async with open_idle_end() as end:
        _say({"port": end.hub.local.port})
        connection = end.open(HONEST, is_initiator=True)
        end.connect(connection, victim_port)
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            async with await connection.open_channel() as channel:
                for _ in range(int(line) // len(block)):
                    await channel.send_all(block)


def _say(found: dict[str, int]) -> None:
    print(json.dumps(found), flush=True)


def main() -> None:
    """Run the program that the first argument names."""
    assert LOOPBACK.host == "127.0.0.1"
    if sys.argv[1] == "attacker":
        attack()
    else:
        trio.run(send, int(sys.argv[2]))


if __name__ == "__main__":
    main()
