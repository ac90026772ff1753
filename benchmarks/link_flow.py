"""One end of one flow over an emulated link, in a process of its own.

``python -m benchmarks.link_flow END`` (an `End` as JSON) prints that it is ready, then
reads from its input when to begin and to end, in seconds of the machine's clock. A
receiver prints ten times a second how many bytes its application has read, a sender
its window, round trip and losses.
Owns the two transports: ours, as a node runs it, and the kernel's TCP. Refuses to know
how many flows there are and how the link behaves.
"""

import json
import random
import socket
import struct
import sys
import time
from dataclasses import dataclass

import trio

from benchmarks.figures import BenchmarkError
from benchmarks.link_emulator import PRIORITY, RECEIVER, SENDER
from benchmarks.namespaces import become_punctual, enter
from opnode.core.addresses import Endpoint
from opnode.drivers.connection_paths import Path, PathKind
from opnode.drivers.connections import Connection
from opnode.drivers.network.network import SystemNetwork
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.congestion import CongestionAlgorithm
from opnode.protocols.rudp.connection import RudpConnection
from opnode.testing.linked import open_end, transport_keys

PORT = 5000
REPORT_S = 0.1
WRITE_BYTES = 1 << 16
RUDP = "rudp"
_TCP_CONGESTION = 13
# The kernel's tcp_info as far as we read it (linux/tcp.h): size of a segment, smoothed
# round trip in microseconds, window in segments, segments sent again.
_TCP_INFO = struct.Struct("=16xI48xI8xI16xI")


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """What one process does.

    Attributes:
        namespace: A path in /proc to the network namespace.
        sends: Whether it is the sending end.
        transport: `RUDP`, or a congestion control of the kernel's TCP.
        index: Number of the flow; of its ports and keys.
        algorithm: Congestion control of ours; empty is the default.
    """

    namespace: str
    sends: bool
    transport: str
    index: int
    algorithm: str = ""

    @property
    def port(self) -> int:
        """Of both ends."""
        return PORT + self.index


@dataclass(frozen=True, slots=True)
class Times:
    """When a flow begins and ends, seconds of the machine's clock."""

    starts_at: float
    ends_at: float


def say(**line: object) -> None:
    """One line of JSON for the parent."""
    print(json.dumps(line), flush=True)


class Account:
    """Bytes that the application has read, told ten times a second."""

    def __init__(self) -> None:
        self._bytes = 0
        self._next_at = 0.0

    def add(self, size: int) -> None:
        """The application has read this much more."""
        self._bytes += size
        now = time.perf_counter()
        if now >= self._next_at:
            say(at=now, bytes=self._bytes)
            self._next_at = now + REPORT_S

    def close(self) -> None:
        """The stream is over."""
        say(at=time.perf_counter(), bytes=self._bytes)


def rudp_config(algorithm: str) -> RudpConfig:
    """The settings of a node, with another congestion control if one is named."""
    if not algorithm:
        return RudpConfig()
    return RudpConfig(congestion=CongestionAlgorithm(algorithm))


async def run_rudp(end: End, times: Times) -> None:
    """Ours, on the socket hub and the connection table that a node has."""
    here, there = (SENDER, RECEIVER) if end.sends else (RECEIVER, SENDER)
    keys = transport_keys(f"flow {end.index}")
    rudp = RudpConnection(
        initiator=end.sends,
        keys=keys[0] if end.sends else keys[1],
        config=rudp_config(end.algorithm),
        rng=random.Random(end.index),
    )
    async with trio.open_nursery() as nursery:
        local = Endpoint(here, end.port)
        linked = await open_end(SystemNetwork(), local, rudp, nursery)
        connection = linked.connection
        await trio.sleep(max(0.0, times.starts_at - time.perf_counter()))
        connection.set_path(Path(PathKind.DIRECT, Endpoint(there, end.port)))
        if end.sends:
            await _send(connection, times)
        else:
            await _receive(connection)
        nursery.cancel_scope.cancel()


async def _send(connection: Connection, times: Times) -> None:
    block = random.Random(1).randbytes(WRITE_BYTES)
    channel = await connection.open_channel()
    with trio.move_on_after(times.ends_at - time.perf_counter()):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tell_states, connection)
            while True:
                await channel.send_all(block)
    connection.close(0, "measured")


async def _tell_states(connection: Connection) -> None:
    while True:
        _say_state(connection)
        await trio.sleep(REPORT_S)


def _say_state(connection: Connection) -> None:
    found = connection.statistics()
    say(
        at=time.perf_counter(),
        window=found.congestion_window,
        smoothed_rtt_s=found.smoothed_rtt_s,
        packets_lost=found.packets_lost,
        probe_timeouts=found.probe_timeouts,
    )


async def _receive(connection: Connection) -> None:
    account = Account()
    channel = await connection.accept_channel()
    try:
        while data := await channel.receive_some():
            account.add(len(data))
    except trio.BrokenResourceError:
        account.close()


def run_tcp(end: End, times: Times) -> None:
    """The kernel's."""
    if end.sends:
        _send_tcp(end, times)
        return
    with socket.create_server((RECEIVER, end.port)) as listener:
        _receive_tcp(listener.accept()[0])


def _send_tcp(end: End, times: Times) -> None:
    with socket.socket() as stream:
        control = end.transport.encode()
        stream.setsockopt(socket.IPPROTO_TCP, _TCP_CONGESTION, control)
        trio.run(trio.sleep, max(0.0, times.starts_at - time.perf_counter()))
        stream.connect((RECEIVER, end.port))
        block, next_at = random.Random(1).randbytes(WRITE_BYTES), 0.0
        stream.settimeout(1.0)
        while (now := time.perf_counter()) < times.ends_at:
            if now >= next_at:
                next_at = now + REPORT_S
                _say_tcp_state(stream)
            try:
                stream.send(block)
            except TimeoutError:
                continue
        _say_tcp_state(stream)
        # What is still in the socket's buffer would arrive after the measurement.
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _say_tcp_state(stream: socket.socket) -> None:
    raw = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    segment, rtt_us, window, lost = _TCP_INFO.unpack(raw)
    say(
        at=time.perf_counter(),
        window=window * segment,
        smoothed_rtt_s=rtt_us / 1e6,
        packets_lost=lost,
        probe_timeouts=0,
    )


def _receive_tcp(stream: socket.socket) -> None:
    account, buffer = Account(), bytearray(WRITE_BYTES)
    try:
        while size := stream.recv_into(buffer):
            account.add(size)
    except ConnectionError:
        account.close()


def main() -> None:
    """Be one end."""
    end = End(**json.loads(sys.argv[1]))
    become_punctual(PRIORITY - 1)
    try:
        enter(end.namespace)
        say(ready=True)
        times = Times(**json.loads(sys.stdin.readline()))
        if end.transport == RUDP:
            trio.run(run_rudp, end, times)
        else:
            run_tcp(end, times)
    except (BenchmarkError, OSError) as failure:
        say(failure=str(failure))
        sys.exit(1)


if __name__ == "__main__":
    main()
