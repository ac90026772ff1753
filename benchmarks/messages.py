"""How fast messages of 100 bytes travel between two processes on loopback.

``messages_per_s``: one way, written one by one and counted one by one by the receiving
application; the clock starts at the first and stops when the receiver's account of the
last is back. ``roundtrip_us``: one message there and back, then the next.
``paced_roundtrip_ms``: the same at 50 messages a second, when both processes sleep in
between: a timer that holds messages back would show here.
"""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import trio

import opnode
from benchmarks.figures import BenchmarkError, Report, measure
from benchmarks.neighbourhood import (
    COUNT,
    HEADER,
    LOOPBACK,
    PING_PONG,
    REPORT,
    other_process,
)

MESSAGE = bytes(range(100))
PACE_S = 0.02
WARM_UP_ROUNDTRIPS = 300
WARM_UP_COUNT = 50_000
RUN_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured.

    Args:
        runs: Of each of the first two measures.
        count: Messages of a run one way.
        roundtrips: Of a run.
        paced_seconds: How long the last measure takes.
    """

    runs: int = 5
    count: int = 400_000
    roundtrips: int = 5000
    paced_seconds: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """One run one way."""

    per_s: float
    cpu_send_us: float
    cpu_receive_us: float


async def run(plan: Plan) -> Report:
    """Measure, after warming both ends up."""
    async with other_process(2) as neighbourhood:
        config = opnode.NodeConfig(
            listen=LOOPBACK, bootstrap=(neighbourhood.bootstrap,), role=opnode.Role.LEAF
        )
        async with opnode.open_node(config) as node:
            await node.wait_joined()
            connection = await node.connect(neighbourhood.callee)
            async with aclosing(connection):
                with trio.fail_after(RUN_S * plan.runs):
                    return await _measure(connection, plan)


async def _measure(connection: opnode.Connection, plan: Plan) -> Report:
    await _flood(connection, WARM_UP_COUNT)
    floods = [await _flood(connection, plan.count) for _ in range(plan.runs)]
    async with _talk(connection, PING_PONG, 0) as messages:
        await _ping_pong(messages, WARM_UP_ROUNDTRIPS)
        roundtrips: list[float] = []
        cpu_at = time.process_time()
        for _ in range(plan.runs):
            roundtrips += await _ping_pong(messages, plan.roundtrips)
        cpu_s = time.process_time() - cpu_at
        paced = await _paced(messages, int(plan.paced_seconds / PACE_S))
    return Report(
        figure="messages",
        measures={
            "messages_per_s": measure([flood.per_s for flood in floods]),
            "cpu_us_send": measure([flood.cpu_send_us for flood in floods]),
            "cpu_us_receive": measure([flood.cpu_receive_us for flood in floods]),
            "roundtrip_us": measure(roundtrips, scale=1e6),
            "paced_roundtrip_ms": measure(paced, scale=1e3),
        },
        facts={
            "runs": plan.runs,
            "messages_per_run": plan.count,
            "cpu_us_per_roundtrip": round(cpu_s / len(roundtrips) * 1e6, 1),
        },
    )


@asynccontextmanager
async def _talk(
    connection: opnode.Connection, operation: bytes, count: int
) -> AsyncIterator[opnode.MessageChannel]:
    channel = await connection.open_channel()
    async with opnode.MessageChannel(channel) as messages:
        await channel.send_all(HEADER.pack(operation, count))
        yield messages


async def _flood(connection: opnode.Connection, count: int) -> Flood:
    async with _talk(connection, COUNT, count) as messages:
        cpu_at, wall_at = time.process_time(), time.perf_counter()
        for _ in range(count):
            try:
                messages.send_nowait(MESSAGE)
            except trio.WouldBlock:
                await messages.send(MESSAGE)
        await messages.flush()
        size, cpu_receive_s, _ = REPORT.unpack(await messages.receive())
        wall_s = time.perf_counter() - wall_at
        cpu_s = time.process_time() - cpu_at
    if size != count * len(MESSAGE):
        raise BenchmarkError(f"sent {count * len(MESSAGE)} bytes, {size} arrived")
    return Flood(
        per_s=count / wall_s,
        cpu_send_us=cpu_s / count * 1e6,
        cpu_receive_us=cpu_receive_s / count * 1e6,
    )


async def _ping_pong(messages: opnode.MessageChannel, count: int) -> list[float]:
    return [await _roundtrip(messages) for _ in range(count)]


async def _paced(messages: opnode.MessageChannel, count: int) -> list[float]:
    """Round trips with 20 ms from one start to the next."""
    start = trio.current_time()
    times = []
    for index in range(count):
        await trio.sleep_until(start + index * PACE_S)
        times.append(await _roundtrip(messages))
    return times


async def _roundtrip(messages: opnode.MessageChannel) -> float:
    began_at = time.perf_counter()
    await messages.send(MESSAGE)
    found = await messages.receive()
    took_s = time.perf_counter() - began_at
    if found != MESSAGE:
        raise BenchmarkError(f"{len(found)} bytes came back, not those that were sent")
    return took_s
