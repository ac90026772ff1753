"""What a server spends on those whom it introduces.

Three servers in a process of their own, on real sockets, and leaves in this one whose
introducers they are; one of the servers is looked at. First nobody does anything: that
is what registrations cost. Then leaves connect to each other: that is what an
introduction takes in bytes, as real offers and answers have them. Last, offers and
answers of those sizes are passed with nothing else going on: that is an introduction's
CPU, as lookups and checks also take some.

Bytes are on the wire: 28 more than inside of UDP for each datagram, both ways.
"""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple

import trio

import opnode
from benchmarks.figures import BenchmarkError, Report, measure
from benchmarks.neighbourhood import LOOPBACK
from benchmarks.program import Line, Program, open_program
from opnode.node.assembly import Parts

HEADER_BYTES = 28
BATCH = 20
"""Introductions between two readings of the server's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured: leaves, seconds of idling, connects, then introductions.

    For ``settle`` seconds before that nothing is: leaves find out how long they may be
    silent, which takes seven minutes and a few knocks each.
    """

    leaves: int = 100
    settle: float = 420.0
    seconds: float = 180.0
    connects: int = 50
    introductions: int = 400


class _Offers(NamedTuple):
    """Through the server at which port, of how many sealed bytes, and how many."""

    port: int
    size: int
    number: int


async def run(plan: Plan) -> Report:
    """Measure."""
    async with open_program("benchmarks.introducer_node", {}) as server:
        entry = opnode.BootstrapEntry.parse((await server.line())["bootstrap"])
        async with _open_leaves(plan.leaves, entry) as leaves:
            await trio.sleep(plan.settle)
            idle = await _idle(server, plan.seconds)
            sizes = await _connect(server, leaves, plan.connects)
            half = round(sum(sizes) / len(sizes) / 4) - _OVERHEAD
            offers = _Offers(entry.port, half, plan.introductions)
            cpu_ms = await _introduce(server, leaves, offers)
            registered = (await _account(server))["registered"]
        await server.close_input()
    return Report(
        figure="introducer",
        measures={
            "idle_bytes_per_s": measure(idle),
            "introduction_bytes": measure(sizes),
            "introduction_cpu_ms": measure(cpu_ms),
        },
        facts={
            "leaves": plan.leaves,
            "registered": registered,
            "seconds": plan.seconds,
            "sealed_bytes": half,
        },
    )


# Of each of the four datagrams of an introduction: headers, and what is around the
# sealed bytes.
_OVERHEAD = HEADER_BYTES + 76


@contextlib.asynccontextmanager
async def _open_leaves(
    count: int, entry: opnode.BootstrapEntry
) -> AsyncIterator[list[opnode.OverlayNode]]:
    config = opnode.NodeConfig(
        listen=LOOPBACK, bootstrap=(entry,), role=opnode.Role.LEAF
    )
    async with contextlib.AsyncExitStack() as stack:
        leaves = []
        for _ in range(count):
            leaf = await stack.enter_async_context(opnode.open_node(config))
            await leaf.wait_published()
            leaves.append(leaf)
        yield leaves


async def _idle(server: Program, seconds: float) -> list[float]:
    """Bytes per second while nobody does anything, in ten parts."""
    rates = []
    before = await _account(server)
    for _ in range(10):
        await trio.sleep(seconds / 10)
        after = await _account(server)
        rates.append(_wire_bytes(before, after, "") / (seconds / 10))
        before = after
    return rates


async def _connect(
    server: Program, leaves: list[opnode.OverlayNode], count: int
) -> list[float]:
    """Bytes of each introduction of a real connect."""
    sizes = []
    for number in range(count):
        caller, callee = leaves[number % len(leaves)], leaves[number // 2 - 1]
        if caller is callee:
            continue
        before = await _account(server)
        connection = await caller.connect(callee.peer_id)
        after = await _account(server)
        await connection.aclose()
        passed = after["passed"] - before["passed"]
        if passed:
            sizes.append(_wire_bytes(before, after, "introducing_") / passed)
    return sizes


async def _introduce(
    server: Program, leaves: list[opnode.OverlayNode], plan: _Offers
) -> list[float]:
    """CPU milliseconds of the server for each of so many introductions."""
    port, size, count = plan
    callee, callers = leaves[0], leaves[1:]
    doors = callee.statistics().introducers
    (door,) = [one for one in doors if one.endpoint.port == port]
    answer = bytes(size)

    async def take(offer: bytes) -> bytes:
        del offer
        await trio.lowlevel.checkpoint()
        return answer

    # What a node does for people goes on to ICE; here it ends with the answer.
    _parts(callee).introductions.on_offer = take
    found = []
    for start in range(0, count, BATCH):
        before = await _account(server)
        for number in range(start, start + BATCH):
            caller = _parts(callers[number % len(callers)])
            await caller.introductions.introduce(door, bytes(size))
        after = await _account(server)
        if after["passed"] - before["passed"] != BATCH:
            raise BenchmarkError("not every introduction was passed on")
        found.append((after["cpu_s"] - before["cpu_s"]) / BATCH * 1000)
    return found


def _parts(node: opnode.OverlayNode) -> Parts:
    return node._parts


async def _account(server: Program) -> Line:
    await server.say({})
    return await server.line()


def _wire_bytes(before: Line, after: Line, of: str) -> float:
    size = after[f"{of}bytes"] - before[f"{of}bytes"]
    datagrams = after[f"{of}datagrams"] - before[f"{of}datagrams"]
    return float(size + HEADER_BYTES * datagrams)
