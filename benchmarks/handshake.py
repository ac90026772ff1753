"""What connections cost before anybody uses them: to make, to accept, and to hold.

``cpu_ms_per_handshake``: both ends in this process, no socket: sealed offer, answer,
the keyed transports of both, and their packets until the keys of the post-quantum
exchange protect both directions. One sample is the mean of a batch, in CPU time.

``connections_per_s``: a whole node here accepts, on its real socket, the calls of nodes
in another process (lookup, introduction, ICE, keys, one ping, close). The figure is
connections accepted per second of this process's CPU: what one core would accept that
does nothing else. The callers and the introducers share the other process, which needs
more CPU than the callee; ``accepted_per_wall_s`` is what both did together.

``kB_per_idle_connection``: growth of this process's resident memory by all connections
of one table, after garbage collection, per connection. ``idle_cpu_percent``: its CPU
time over a stretch in which nothing happens but keep-alives, of one core. Connections
are keyed on both sides by seeds, between two processes, on real sockets, tables and
timers; ICE, which a node keeps beside each connection, is not part of it.
"""

import contextlib
import gc
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import trio

import opnode
from benchmarks.crowd import IdleEnd, open_idle_end
from benchmarks.figures import BenchmarkError, Measure, Report, measure
from benchmarks.neighbourhood import LOOPBACK
from opnode.core.addresses import Candidate, Endpoint, IceHalf
from opnode.core.crypto import SigningKey, StaticKey
from opnode.core.peerfile import Identity, Location, certify_location
from opnode.drivers.connections import Connection
from opnode.protocols.introductions.desk import IntroductionDesk
from opnode.protocols.introductions.handshake import Handshakes
from opnode.protocols.noise import NoiseInitiator, NoiseResponder
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.connection import RudpConnection
from opnode.testing.pair import Pair

BATCHES = 20
HANDSHAKES_PER_BATCH = 25
CALLERS = 16
CHUNK = 200
"""Idle connections opened at once: their first packets fit the socket's buffer."""

STEP_S = 120.0
SETTLE_S = 3.0
SETTLE_INTERVAL_S = 0.05
MAX_SETTLES = 400
_WALL_NOW = 1_800_000_000.0
_LIFETIME_S = 86_400
_NOISE = Handshakes(initiator=NoiseInitiator, responder=NoiseResponder)
_ICE = IceHalf(
    "ufra",
    "0123456789abcdefghijkl",
    tuple(
        Candidate(
            kind="host",
            endpoint=Endpoint(f"192.0.2.{number}", 40_000),
            priority=2_130_706_431 - number,
            foundation=f"{number:032x}",
        )
        for number in range(1, 4)
    ),
)


async def run(
    *, connects: int = 400, connections: int = 10_000, seconds: float = 60.0
) -> Report:
    """Measure the three, one after the other.

    Args:
        connects: calls that the node accepts.
        connections: idle ones held at once; 0 leaves that part out.
        seconds: how long the idle connections are watched.
    """
    measures = {"cpu_ms_per_handshake": _handshakes()}
    facts: dict[str, int | float | str] = {}
    if connects:
        rate, more = await _accept(connects)
        measures["connections_per_s"] = rate
        facts |= more
    if connections:
        idle, more = await _hold(connections, seconds)
        measures |= idle
        facts |= more
    return Report(figure="handshake", measures=measures, facts=facts)


def _handshakes() -> Measure:
    locations = [_location(), _location()]
    samples = []
    for _ in range(BATCHES):
        began_at = time.process_time()
        for number in range(HANDSHAKES_PER_BATCH):
            _handshake(locations, seed=number)
        samples.append((time.process_time() - began_at) / HANDSHAKES_PER_BATCH)
    return measure(samples, scale=1e3)


def _location() -> Location:
    return certify_location(
        Identity(SigningKey.generate()),
        signing=SigningKey.generate(),
        static=StaticKey.generate(),
        name="benchmark",
        wall_now=_WALL_NOW,
        lifetime_s=_LIFETIME_S,
    )


def _handshake(locations: list[Location], seed: int) -> None:
    """One introduction between two desks, then transports that hear each other."""
    caller, callee = (
        IntroductionDesk(location, handshakes=_NOISE) for location in locations
    )
    outgoing = caller.offer(locations[1].certificate, _ICE, 0.0)
    incoming = callee.receive_offer_untrusted(outgoing.message, 0.0, wall_now=_WALL_NOW)
    if incoming is None:
        raise BenchmarkError("the offer was taken for a copy")
    answer, theirs = incoming.answer(_ICE)
    ours = outgoing.receive_answer_untrusted(answer, _WALL_NOW)
    pair = Pair(seed=seed, connect=False)
    for end, keys, other in (
        (pair.a, ours.keys, pair.b),
        (pair.b, theirs.keys, pair.a),
    ):
        end.connection = RudpConnection(
            initiator=end is pair.a,
            keys=keys,
            config=RudpConfig(),
            rng=random.Random(seed),
        )
        end.connection.set_path(other.endpoint, pair.now)
    pair.drive(lambda: all(_is_ready(end.connection) for end in (pair.a, pair.b)))


def _is_ready(connection: RudpConnection) -> bool:
    """Whether the post-quantum keys protect both directions."""
    return connection.statistics().post_quantum_at is not None


async def _accept(
    connects: int,
) -> tuple[Measure, dict[str, int | float | str]]:
    async with _other("callers", str(CALLERS)) as other:
        entry = opnode.BootstrapEntry.parse(str((await other.hear())["bootstrap"]))
        config = opnode.NodeConfig(
            listen=LOOPBACK, bootstrap=(entry,), role=opnode.Role.LEAF
        )
        async with opnode.open_node(config) as node, trio.open_nursery() as nursery:
            await node.wait_published()
            accepted: list[Connection] = []
            nursery.start_soon(_keep_accepting, node, accepted)
            peer = opnode.format_peer_id(node.peer_id)
            await other.ask(f"{peer} {CALLERS}")
            accepted.clear()
            cpu_at, wall_at = time.process_time(), time.perf_counter()
            answer = await other.ask(f"{peer} {connects}")
            cpu_s = time.process_time() - cpu_at
            wall_s = time.perf_counter() - wall_at
            nursery.cancel_scope.cancel()
    if not accepted:
        raise BenchmarkError(f"no call came through: {answer['first_failure']}")
    facts: dict[str, int | float | str] = {
        "accepted": len(accepted),
        "failed_connects": int(str(answer["failed"])),
        "accepted_per_wall_s": round(len(accepted) / wall_s, 1),
    }
    if answer["failed"]:
        print(f"a connect failed: {answer['first_failure']}", file=sys.stderr)
    return measure([len(accepted) / cpu_s]), facts


async def _keep_accepting(node: opnode.OverlayNode, accepted: list[Connection]) -> None:
    while True:
        accepted.append(await node.accept_connection())


async def _hold(
    connections: int, seconds: float
) -> tuple[dict[str, Measure], dict[str, int | float | str]]:
    async with _other("idle") as other, open_idle_end() as end:
        port = int(str((await other.hear())["port"]))
        gc.collect()
        resident = _resident_bytes()
        held = await _open_idle(end, other, port, connections)
        gc.collect()
        grown = _resident_bytes() - resident
        packets = end.hub.statistics().rudp
        cpu_at, wall_at = time.process_time(), time.perf_counter()
        await trio.sleep(seconds)
        cpu_s = time.process_time() - cpu_at
        wall_s = time.perf_counter() - wall_at
        packets = end.hub.statistics().rudp - packets
    facts: dict[str, int | float | str] = {
        "idle_connections": len(held),
        "idle_seconds": round(wall_s, 1),
        "idle_packets_in_per_s": round(packets / wall_s, 1),
    }
    return {
        "kB_per_idle_connection": measure([grown / len(held)], scale=1e-3),
        "idle_cpu_percent": measure([cpu_s / wall_s], scale=100),
    }, facts


async def _open_idle(
    end: IdleEnd, other: "_Other", port: int, count: int
) -> list[Connection]:
    """Open them on both sides, a few at a time, as they come to a node in service.

    All at once, the memory of ten thousand handshakes under way would be counted.
    """
    held: list[Connection] = []
    for first in range(0, count, CHUNK):
        numbers = range(first, min(first + CHUNK, count))
        chunk = [end.open(number, is_initiator=True) for number in numbers]
        for connection in chunk:
            end.connect(connection, port)
        await other.ask(f"{end.hub.local.port} {numbers.start} {numbers.stop}")
        await _settle(chunk)
        held += chunk
    await trio.sleep(SETTLE_S)
    return held


async def _settle(chunk: list[Connection]) -> None:
    """Wait until their keys are the final ones and nothing is under way."""
    for _ in range(MAX_SETTLES):
        if all(map(_is_at_rest, chunk)):
            return
        await trio.sleep(SETTLE_INTERVAL_S)
    raise BenchmarkError("some idle connections did not come to rest")


def _is_at_rest(connection: Connection) -> bool:
    """Whether its keys are the final ones, and nothing is under way."""
    figures = connection.statistics()
    return figures.post_quantum_at is not None and not figures.bytes_in_flight


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


class _Other:
    """The crowd's process, by its lines."""

    def __init__(self, process: trio.Process) -> None:
        """Talk to a process that was started with both pipes."""
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout
        self._unread = b""

    async def ask(self, line: str) -> dict[str, object]:
        """Say a line; returns the answer.

        Raises:
            BenchmarkError: the process ended, or is too slow.
        """
        try:
            await self._stdin.send_all(line.encode() + b"\n")
        except trio.BrokenResourceError:
            raise BenchmarkError("the other process ended") from None
        return await self.hear()

    async def hear(self) -> dict[str, object]:
        """Wait for the next line.

        Raises:
            BenchmarkError: the process ended, or is too slow.
        """
        with trio.move_on_after(STEP_S):
            while b"\n" not in self._unread:
                part = await self._stdout.receive_some()
                if not part:
                    break
                self._unread += part
        line, end, self._unread = self._unread.partition(b"\n")
        if not end:
            raise BenchmarkError("the other process ended or is too slow")
        answer: dict[str, object] = json.loads(line)
        return answer


@contextlib.asynccontextmanager
async def _other(*arguments: str) -> AsyncIterator[_Other]:
    """Run one of the crowd's programs until the block ends."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "benchmarks.crowd", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    try:
        yield _Other(process)
    finally:
        # It ends with its input; the kill is for one that hangs.
        with trio.CancelScope(shield=True):
            await process.stdin.aclose()
            with trio.move_on_after(5):
                await process.wait()
            process.kill()
            await process.wait()
