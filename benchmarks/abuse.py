"""What is left of an honest connection's speed while somebody attacks its node.

This process is the victim: one socket, its table, connection 0 to an honest sender and
one connection to an attacker, who has its keys; both are processes of their own. Each
transfer under attack follows one without. ``kept_percent_KIND``: goodput with the
attack, of that without. ``cpu_kept_percent_KIND``: the same of the bytes carried per
second of the victim's CPU, which does not see that three processes share the cores.

Kinds: ``junk`` bears unknown ids, ``forged`` the honest connection's id, ``replay`` is
one genuine packet for ever; the rest authenticates: ``ping`` one a packet, ``pings``
233, ``padding`` full packets, ``ack`` acknowledges nothing new, ``challenge``,
``key_share``, ``byte`` one byte of data a packet, ``channel`` one channel a packet.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import count

import trio

from benchmarks.abuser import HONEST, MAKERS
from benchmarks.crowd import open_idle_end
from benchmarks.figures import BenchmarkError, Report, measure
from opnode.drivers.connections import Connection

RUN_S = 60.0
HEAD_START_S = 0.2
"""The attack is under way for so long before the transfer begins."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """One transfer as the victim saw it."""

    bytes_per_s: float
    bytes_per_cpu_s: float


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
    cpu_kept: dict[str, list[float]] = {kind: [] for kind in MAKERS}
    cut_off = dict.fromkeys(MAKERS, 0)
    numbers = count(HONEST + 1)
    async with open_idle_end() as end:
        port = str(end.hub.local.port)
        async with _party("sender", port) as sender, _party("attacker", port) as foe:
            honest = end.open(HONEST, is_initiator=False)
            end.connect(honest, (await sender.hear())["port"])
            foe_port = (await foe.hear())["port"]
            await _transfer(sender, honest, size)
            for _ in range(runs):
                for kind in MAKERS:
                    calm = await _transfer(sender, honest, size)
                    target = end.open(number := next(numbers), is_initiator=False)
                    end.connect(target, foe_port)
                    await foe.tell(f"{kind} {rate} {number}")
                    await trio.sleep(HEAD_START_S)
                    under = await _transfer(sender, honest, size)
                    await foe.tell("stop")
                    await foe.hear()
                    kept[kind].append(under.bytes_per_s / calm.bytes_per_s)
                    cpu_kept[kind].append(under.bytes_per_cpu_s / calm.bytes_per_cpu_s)
                    cut_off[kind] += target.close_reason is not None
                    target.close(0, "the attack is over")
    return Report(
        figure="abuse",
        measures={
            f"{name}_{kind}": measure(values[kind], scale=100)
            for name, values in (("kept_percent", kept), ("cpu_kept_percent", cpu_kept))
            for kind in MAKERS
        },
        facts={
            "runs": runs,
            "bytes_per_run": size,
            "packets_per_s": rate,
            "cut_off": ", ".join(kind for kind, times in cut_off.items() if times),
        },
    )


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
    return Transfer(size / wall_s, size / cpu_s)


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
