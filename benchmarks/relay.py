"""How fast a connection goes through one relay, against the direct path, on loopback.

Both ends live in this process, the relay in another one. Packets of 1200 bytes. The two
ways take turns. CPU seconds of the relay are user and system, per 10^9 bytes that it
passed on; acknowledgements and frames count as bytes passed on.
"""

import json
import random
import subprocess
import sys
import time
from dataclasses import dataclass

import trio

from benchmarks.figures import BenchmarkError, Report, measure
from opnode.core.addresses import Endpoint
from opnode.core.crypto import SigningKey
from opnode.core.ids import node_id_of
from opnode.drivers.connection_paths import Path, PathKind
from opnode.drivers.connections import Connection
from opnode.drivers.network.network import SystemNetwork
from opnode.drivers.relay.path import RelayPaths
from opnode.drivers.rpc.rpc import Rpc
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.connection import RudpConnection
from opnode.testing.linked import LinkedEnd, open_end, transport_keys

LOOPBACK = Endpoint("127.0.0.1", 0)
WRITE_BYTES = 1 << 16
PACKET_BYTES = 1200
LIMIT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured.

    Args:
        runs: of each way.
        mebibytes: of each run.
    """

    runs: int = 5
    mebibytes: int = 64


class RelayProcess:
    """The relay, and its account."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.relay_node"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.endpoint = Endpoint(LOOPBACK.host, int(self._read()["port"]))

    def account(self) -> tuple[float, float]:
        """CPU seconds and bytes passed on since the start."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        told = self._read()
        return told["cpu_s"], told["bytes"]

    def end(self) -> None:
        """Stop it."""
        self._process.kill()
        self._process.communicate()

    def _read(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchmarkError("the relay's process ended")
        told: dict[str, float] = json.loads(line)
        return told


async def run(plan: Plan) -> Report:
    """Measure both ways in turn."""
    direct, relayed, cpu = [], [], []
    process = await trio.to_thread.run_sync(RelayProcess)
    try:
        with trio.fail_after(LIMIT_S):
            for number in range(plan.runs):
                direct.append(await _measure(plan, None, number))
                before = process.account()
                relayed.append(await _measure(plan, process.endpoint, number))
                after = process.account()
                passed = after[1] - before[1]
                cpu.append((after[0] - before[0]) / passed * 1e9)
    finally:
        process.end()
    return Report(
        figure="relay",
        measures={
            "direct_MBps": measure(direct, scale=1e-6),
            "relayed_MBps": measure(relayed, scale=1e-6),
            "relay_cpu_s_per_GB": measure(cpu),
        },
        facts={"mebibytes": plan.mebibytes, "packet_bytes": PACKET_BYTES},
    )


async def _measure(plan: Plan, relay: Endpoint | None, number: int) -> float:
    """Bytes a second of one transfer."""
    size = plan.mebibytes << 20
    async with trio.open_nursery() as nursery:
        ends = [await _open(nursery, index, number) for index in range(2)]
        if relay is None:
            for end, other in zip(ends, reversed(ends), strict=True):
                path = Path(PathKind.DIRECT, other.hub.local)
                end.connection.set_path(path)
        else:
            for end in ends:
                await _join(nursery, end, relay, number.to_bytes(8, "big"))
        await _carry(ends[0].connection, ends[1].connection, WRITE_BYTES)
        started_at = time.perf_counter()
        await _carry(ends[0].connection, ends[1].connection, size)
        took_s = time.perf_counter() - started_at
        for end in ends:
            end.hub.close()
        nursery.cancel_scope.cancel()
    return size / took_s


async def _open(nursery: trio.Nursery, index: int, number: int) -> LinkedEnd:
    rudp = RudpConnection(
        initiator=index == 0,
        keys=transport_keys(str(number))[index],
        config=RudpConfig(max_packet_size=PACKET_BYTES),
        rng=random.Random(index),
    )
    return await open_end(SystemNetwork(), LOOPBACK, rudp, nursery)


async def _join(
    nursery: trio.Nursery, end: LinkedEnd, relay: Endpoint, session: bytes
) -> None:
    """Join a session and make it the path as soon as both are there."""
    key = SigningKey.generate()
    rpc = Rpc(
        end.hub,
        node_id=node_id_of(key.public, LOOPBACK.host),
        leaf=True,
        signing_key=key,
        rng=random.Random(),
    )
    paths = RelayPaths(rpc, end.hub)
    await nursery.start(rpc.run)
    await nursery.start(paths.run)
    joined = paths.join(
        relay,
        session,
        lambda one: end.connection.set_path(
            Path(PathKind.RELAY, one.endpoint, one.relay)
        ),
    )
    while joined.terms is None:  # noqa: ASYNC110 - before anything is measured
        await trio.sleep(0.001)


async def _carry(sender: Connection, receiver: Connection, size: int) -> None:
    """Send so many bytes on a channel of their own, and hear that they are there."""

    async def send() -> None:
        channel = await sender.open_channel()
        block = bytes(WRITE_BYTES)
        for _ in range(size // WRITE_BYTES):
            await channel.send_all(block)
        await channel.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        channel = await receiver.accept_channel()
        left = size
        while left > 0:
            left -= len(await channel.receive_some(1 << 20))
