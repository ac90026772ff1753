"""How long it takes to reach somebody of whom one has only the opnode.PeerId.

Twenty server nodes run on loopback in another process; one of them has an identity and
answers. Every connect is made by a new node which has joined through one entry, has
published itself and has never heard of the callee. The clock starts at ``node.connect``
and stops at the first byte that comes back on a channel. It includes the lookup, the
introduction through another node, the ICE checks and the keys, which the introduction
carries. It does not include starting the new node and joining.
"""

import sys
import time
from contextlib import aclosing
from dataclasses import dataclass

import trio

import opnode
from benchmarks.figures import BenchmarkError, Measure, Report, measure
from benchmarks.neighbourhood import (
    LOOPBACK,
    Neighbourhood,
    first_echo,
    other_process,
)
from opnode.drivers.beginnings import ConnectTimings

ATTEMPT_S = 30.0
PAUSE_S = 0.01
"""Seconds between two connects, so that one's farewell is not part of the next."""

SHOWN_FAILURES = 3


@dataclass(frozen=True, slots=True)
class Connect:
    """One connect: the total to the first echoed byte, and the steps before it."""

    first_byte_s: float
    steps: ConnectTimings


async def run(*, connects: int = 100, nodes: int = 20) -> Report:
    """Measure; every failure is counted and the first few are told."""
    done: list[Connect] = []
    failures: list[str] = []
    async with other_process(nodes) as neighbourhood:
        for _ in range(connects):
            try:
                with trio.fail_after(ATTEMPT_S):
                    done.append(await _connect_once(neighbourhood))
            except (
                opnode.OpnodeError,
                OSError,
                BenchmarkError,
                trio.TooSlowError,
            ) as error:
                failures.append(f"{type(error).__name__}: {error}")
            await trio.sleep(PAUSE_S)
    for failure in failures[:SHOWN_FAILURES]:
        print(f"a connect failed: {failure}", file=sys.stderr)
    if not done:
        raise BenchmarkError(f"all {connects} connects failed, first: {failures[0]}")
    return Report(
        figure="connect",
        measures=_measures(done),
        facts={"failed": len(failures), "connects": connects, "nodes": nodes},
    )


async def _connect_once(neighbourhood: Neighbourhood) -> Connect:
    config = opnode.NodeConfig(
        listen=LOOPBACK, bootstrap=(neighbourhood.bootstrap,), role=opnode.Role.LEAF
    )
    async with opnode.open_node(config) as node:
        await node.wait_joined()
        # Its own publication would compete with the connect for the processor.
        await node.wait_published()
        began_at = time.perf_counter()
        connection = await node.connect(neighbourhood.callee)
        async with aclosing(connection), await connection.open_channel() as channel:
            await first_echo(channel)
            first_byte_s = time.perf_counter() - began_at
            if connection.timings is None:
                raise BenchmarkError("the callee called back at the same moment")
            return Connect(first_byte_s, connection.timings)


def _measures(done: list[Connect]) -> dict[str, Measure]:
    return {
        "connect_ms": measure([one.first_byte_s for one in done], scale=1e3),
        "lookup_ms": measure([one.steps.lookup_s for one in done], scale=1e3),
        "introduce_ms": measure([one.steps.introduce_s for one in done], scale=1e3),
        "ice_ms": measure([one.steps.ice_s for one in done], scale=1e3),
    }
