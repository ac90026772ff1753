"""The other process: server nodes on loopback, one of which answers calls.

Owns starting the nodes and the small protocol that a benchmark speaks on a channel.
Refuses to know what is measured.

The protocol, the same that other systems' figures were taken with: nine bytes, an
operation and a count. ``E``: one byte comes back. ``S``: ``count`` bytes follow and are
thrown away, and 24 bytes come back: the receiver's bytes, CPU and wall seconds. ``M``:
``count`` messages (docs/protocols/messages.md) follow and are counted, and the same
account comes back as a message. ``P``: every message comes back, until the end.
"""

import contextlib
import json
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator
from dataclasses import dataclass

import trio

import opnode
from benchmarks.figures import BenchmarkError, leaves
from opnode.drivers.network.network import Network, NetworkConfig, SystemNetwork
from opnode.testing.overlay import entry_of

HEADER = struct.Struct(">cQ")
REPORT = struct.Struct(">Qdd")
ECHO = b"E"
SWALLOW = b"S"
COUNT = b"M"
PING_PONG = b"P"
NO_OFFLOAD = "--no-offload"
LOOPBACK = opnode.Endpoint("127.0.0.1", 0)
START_S = 60.0
"""Seconds until a neighbourhood that has not reported is given up."""


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Where to join, and whom to call."""

    bootstrap: opnode.BootstrapEntry
    callee: opnode.PeerId


@contextlib.asynccontextmanager
async def open_servers(
    count: int, *, with_identity: frozenset[int], network: Network | None = None
) -> AsyncIterator[list[opnode.OverlayNode]]:
    """Start ``count`` server nodes that join through the first, one after the other.

    Args:
        count: nodes in all.
        with_identity: positions of the nodes that can be called.
        network: where their sockets come from; the operating system's by default.
    """
    async with contextlib.AsyncExitStack() as stack:
        nodes: list[opnode.OverlayNode] = []
        entries: tuple[opnode.BootstrapEntry, ...] = ()
        for position in range(count):
            config = opnode.NodeConfig(
                listen=LOOPBACK,
                bootstrap=entries,
                role=opnode.Role.SERVER,
                has_identity=position in with_identity,
            )
            opening = opnode.open_node(config, network=network)
            node = await stack.enter_async_context(opening)
            if entries:
                await node.wait_joined()
            entries = entries or (entry_of(node),)
            nodes.append(node)
        yield nodes


@contextlib.asynccontextmanager
async def other_process(
    nodes: int, *, offload: bool = True
) -> AsyncIterator[Neighbourhood]:
    """Run a neighbourhood in a process of its own until the block ends.

    Args:
        nodes: how many nodes.
        offload: whether their sockets may use segmentation and coalescing.

    Raises:
        BenchmarkError: the other process did not get ready, or ended too early.
    """
    command = [sys.executable, "-m", "benchmarks.neighbourhood", str(nodes)]
    command += [] if offload else [NO_OFFLOAD]
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with trio.open_nursery() as nursery:
            neighbourhood = await _ready(process.stdout)
            nursery.start_soon(_watch, process)
            yield neighbourhood
            nursery.cancel_scope.cancel()
    finally:
        # It ends with its input; the kill is for one that hangs.
        with trio.CancelScope(shield=True):
            await process.stdin.aclose()
            with trio.move_on_after(3):
                await process.wait()
            process.kill()
            await process.wait()


async def swallow(channel: trio.abc.Stream, total: int, block: bytes) -> "Received":
    """Send ``total`` bytes, at most one block per write; what the receiver reports."""
    await channel.send_all(HEADER.pack(SWALLOW, total))
    left = total
    while left > 0:
        await channel.send_all(block if left >= len(block) else block[:left])
        left -= len(block)
    report = Received(*REPORT.unpack(await _exactly(channel, REPORT.size)))
    if report.size != total:
        raise BenchmarkError(f"sent {total} bytes, {report.size} arrived")
    return report


async def first_echo(channel: trio.abc.Stream) -> None:
    """Wait for the first byte that comes back."""
    await channel.send_all(HEADER.pack(ECHO, 1))
    if await channel.receive_some(1) != b"e":
        raise BenchmarkError("the callee echoed something else")


@dataclass(frozen=True, slots=True)
class Received:
    """The receiver's account of one transfer."""

    size: int
    cpu_s: float
    wall_s: float


async def serve(nodes: int, network: Network) -> None:
    """Start the nodes, print where they are, answer calls until the input ends."""
    callee = min(7, nodes - 1)
    callees = frozenset({callee})
    async with (
        open_servers(nodes, with_identity=callees, network=network) as servers,
        trio.open_nursery() as nursery,
    ):
        node = servers[callee]
        nursery.start_soon(_answer_calls, node, nursery)
        await node.wait_published()
        ready = {
            "bootstrap": servers[0].invite(),
            "callee": opnode.format_peer_id(node.peer_id),
        }
        print(json.dumps(ready), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


async def _watch(process: trio.Process) -> None:
    code = await process.wait()
    raise BenchmarkError(f"the other process ended with code {code}")


async def _ready(output: trio.abc.ReceiveStream) -> Neighbourhood:
    line = b""
    with trio.move_on_after(START_S):
        while not line.endswith(b"\n"):
            part = await output.receive_some()
            if not part:
                break
            line += part
    if not line.endswith(b"\n"):
        raise BenchmarkError("the other process did not get ready")
    found = json.loads(line)
    return Neighbourhood(
        opnode.BootstrapEntry.parse(found["bootstrap"]),
        opnode.parse_peer_id(found["callee"]),
    )


async def _answer_calls(node: opnode.OverlayNode, nursery: trio.Nursery) -> None:
    while True:
        connection = await node.accept_connection()
        nursery.start_soon(_answer_channels, connection)


async def _answer_channels(connection: opnode.Connection) -> None:
    async with trio.open_nursery() as nursery:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                channel = await connection.accept_channel()
                nursery.start_soon(_answer_channel, channel)


async def _answer_channel(channel: opnode.Channel) -> None:
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while True:
            try:
                operation, count = HEADER.unpack(await _exactly(channel, HEADER.size))
            except EOFError:
                return
            if operation == ECHO:
                await channel.send_all(b"e")
            elif operation == COUNT:
                await _count(opnode.MessageChannel(channel), count)
                return
            elif operation == PING_PONG:
                await _send_back(opnode.MessageChannel(channel))
                return
            else:
                await _throw_away(channel, count)


async def _throw_away(channel: trio.abc.Stream, total: int) -> None:
    cpu_at, wall_at, left = time.process_time(), time.perf_counter(), total
    while left:
        data = await channel.receive_some()
        if not data:
            return
        left -= len(data)
    cpu_s, wall_s = time.process_time() - cpu_at, time.perf_counter() - wall_at
    await channel.send_all(REPORT.pack(total - left, cpu_s, wall_s))


async def _count(messages: opnode.MessageChannel, total: int) -> None:
    """Take every message into the hand, one by one."""
    cpu_at, wall_at = time.process_time(), time.perf_counter()
    count = size = 0
    async for batch in messages.receive_batches():
        for message in batch:
            count += 1
            size += len(message)
        if count >= total:
            break
    cpu_s, wall_s = time.process_time() - cpu_at, time.perf_counter() - wall_at
    await messages.send(REPORT.pack(size, cpu_s, wall_s))


async def _send_back(messages: opnode.MessageChannel) -> None:
    async for message in messages:
        await messages.send(message)


async def _exactly(channel: trio.abc.Stream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = await channel.receive_some(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def main() -> None:
    """Serve, and end with a readable account of what went wrong."""
    try:
        config = NetworkConfig(offload=NO_OFFLOAD not in sys.argv)
        trio.run(serve, int(sys.argv[1]), SystemNetwork(config))
    except BaseExceptionGroup as group:
        for leaf in leaves(group):
            traceback.print_exception(leaf)
        sys.exit(1)


if __name__ == "__main__":
    main()
