"""What is left of an honest connection's speed while somebody attacks its node.

This process is the victim: one socket, its table, connection 0 to an honest sender and
one connection to an attacker, who has its keys; both are processes of their own. Beside
each transfer under attack there is one during which the same packets go to a socket
that nobody reads, so that the attacker's own use of the machine is in both.
``kept_percent_KIND``: goodput under attack, of that beside it. ``us_per_packet_KIND``:
CPU time that the victim needed more, for each hostile packet; unlike the first figure
it says something on a busy machine, too.

Kinds: ``junk`` bears unknown ids, ``forged`` the honest connection's id, ``replay`` is
one genuine packet for ever; the rest authenticates: ``ping`` one a packet, ``pings``
233, ``padding`` full packets, ``ack`` acknowledges nothing new, ``challenge``,
``key_share``, ``byte`` one byte of data a packet, ``channel`` one channel a packet.
"""

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import count

import trio

from benchmarks.abuser import HONEST, MAKERS
from benchmarks.crowd import IdleEnd, open_idle_end
from benchmarks.figures import BenchmarkError, Report, measure
from opnode.drivers.connections import Connection

RUN_S = 60.0
HEAD_START_S = 0.2
"""The attack is under way for so long before the transfer begins."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """One transfer as the victim saw it."""

    wall_s: float
    cpu_s: float


class Party:
    """A process that takes lines and answers with lines of JSON."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._buffer = b""

    async def tell(self, line: str) -> None:
        """Send one line."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(line.encode() + b"\n")

    async def hear(self) -> dict[str, int]:
        """Wait for one line.

        Raises:
            BenchmarkError: the process ended.
        """
        assert self._process.stdout is not None
        while b"\n" not in self._buffer:
            part = await self._process.stdout.receive_some()
            if not part:
                raise BenchmarkError("a process of the benchmark ended")
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        found: dict[str, int] = json.loads(line)
        return found


async def run(*, runs: int = 9, mebibytes: int = 32, rate: int = 2000) -> Report:
    """Measure every kind in turn, `runs` times."""
    size = mebibytes << 20
    kept: dict[str, list[float]] = {kind: [] for kind in MAKERS}
    cost_s: dict[str, list[float]] = {kind: [] for kind in MAKERS}
    cut_off = dict.fromkeys(MAKERS, 0)
    async with _open_field() as field:
        await field.transfer(size)
        for turn in range(runs):
            for kind in MAKERS:
                # Which comes first takes turns: other load on the machine drifts.
                results = {}
                for aimed in (turn % 2 == 0, turn % 2 == 1):
                    order = f"{kind} {rate}"
                    results[aimed], is_over = await field.attack(
                        order, size, aimed=aimed
                    )
                    cut_off[kind] += is_over
                calm, under = results[False], results[True]
                kept[kind].append(calm.wall_s / under.wall_s)
                more_s = under.cpu_s - calm.cpu_s
                cost_s[kind].append(more_s / (rate * under.wall_s))
    return Report(
        figure="abuse",
        measures={
            f"{name}_{kind}": measure(values[kind], scale=scale)
            for name, values, scale in (
                ("kept_percent", kept, 100.0),
                ("us_per_packet", cost_s, 1e6),
            )
            for kind in MAKERS
        },
        facts={
            "runs": runs,
            "bytes_per_run": size,
            "packets_per_s": rate,
            "cut_off": ", ".join(kind for kind, times in cut_off.items() if times),
        },
    )


class Field:
    """The victim here, the honest sender and the attacker elsewhere, and a sink."""

    def __init__(
        self, end: IdleEnd, sender: Party, attacker: Party, sink: socket.socket
    ) -> None:
        self._end = end
        self._sender = sender
        self._attacker = attacker
        self._sink_port: int = sink.getsockname()[1]
        self._honest = end.open(HONEST, is_initiator=False)
        self._attacker_port = 0
        self._numbers = count(HONEST + 1)

    async def meet(self) -> None:
        """Learn the ports of the others."""
        self._end.connect(self._honest, (await self._sender.hear())["port"])
        self._attacker_port = (await self._attacker.hear())["port"]

    async def attack(
        self, order: str, size: int, *, aimed: bool
    ) -> tuple[Transfer, bool]:
        """One transfer while the attacker sends, to us or to the sink.

        Returns:
            The transfer, and whether the attacker's connection was cut off.
        """
        end, number = self._end, next(self._numbers)
        target = end.open(number, is_initiator=False)
        end.connect(target, self._attacker_port)
        port = end.hub.local.port if aimed else self._sink_port
        await self._attacker.tell(f"{order} {number} {port}")
        await trio.sleep(HEAD_START_S)
        transfer = await self.transfer(size)
        await self._attacker.tell("stop")
        await self._attacker.hear()
        is_cut_off = target.close_reason is not None
        target.close(0, "the attack is over")
        return transfer, is_cut_off

    async def transfer(self, size: int) -> Transfer:
        """Let the honest sender send; what it was like here."""
        return await _transfer(self._sender, self._honest, size)


@contextlib.asynccontextmanager
async def _open_field() -> AsyncIterator[Field]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        async with open_idle_end() as end:
            port = str(end.hub.local.port)
            async with _party("sender", port) as sender, _party("attacker") as attacker:
                field = Field(end, sender, attacker, sink)
                await field.meet()
                yield field


async def _transfer(sender: Party, honest: Connection, size: int) -> Transfer:
    await sender.tell(str(size))
    with trio.fail_after(RUN_S):
        channel = await honest.accept_channel()
        cpu_at, wall_at, left = time.process_time(), time.perf_counter(), size
        while left > 0:
            data = await channel.receive_some()
            if not data:
                raise BenchmarkError(f"{left} bytes of the transfer are missing")
            left -= len(data)
        wall_s = time.perf_counter() - wall_at
        cpu_s = time.process_time() - cpu_at
        await channel.aclose()
    return Transfer(wall_s, cpu_s)


@contextlib.asynccontextmanager
async def _party(*arguments: str) -> AsyncIterator[Party]:
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "benchmarks.abuser", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    try:
        yield Party(process)
    finally:
        # It ends with its input; the kill is for one that hangs.
        with trio.CancelScope(shield=True):
            await process.stdin.aclose()
            with trio.move_on_after(3):
                await process.wait()
            process.kill()
            await process.wait()
