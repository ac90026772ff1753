"""A program of ours in another process that speaks lines of JSON.

Owns starting, ending and the lines. Refuses to know what they say; only ``failure`` is
understood, and becomes an error here.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import trio

from benchmarks.figures import BenchmarkError

END_S = 3.0
"""Seconds that a program has to end by itself after its input did."""

# What another process of the same revision printed: it is read where it is known.
Line = dict[str, Any]  # any type of JSON


class Program:
    """One running program."""

    def __init__(self, name: str, process: trio.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._name = name
        self._input, self._output = process.stdin, process.stdout
        self._rest = b""

    async def say(self, line: Mapping[str, object]) -> None:
        """Hand it one line."""
        await self._input.send_all(json.dumps(line).encode() + b"\n")

    async def close_input(self) -> None:
        """Tell it that there is nothing more to do."""
        await self._input.aclose()

    async def line(self) -> Line:
        """The next line that it prints.

        Raises:
            BenchmarkError: it ended, or says that it failed.
        """
        while b"\n" not in self._rest:
            part = await self._output.receive_some()
            if not part:
                raise BenchmarkError(f"{self._name} ended too early")
            self._rest += part
        text, _, self._rest = self._rest.partition(b"\n")
        found: Line = json.loads(text)
        if "failure" in found:
            raise BenchmarkError(found["failure"])
        return found

    async def lines(self) -> AsyncGenerator[Line, None]:
        """All lines until it ends."""
        while True:
            if b"\n" not in self._rest:
                part = await self._output.receive_some()
                if not part:
                    return
                self._rest += part
                continue
            yield await self.line()


@contextlib.asynccontextmanager
async def open_program(
    module: str, settings: Mapping[str, object]
) -> AsyncIterator[Program]:
    """Run ``python -m module SETTINGS`` until the block ends."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", module, json.dumps(settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    program = Program(module, process)
    try:
        yield program
    finally:
        # It ends with its input; the kill is for one that hangs.
        with trio.CancelScope(shield=True):
            await program.close_input()
            with trio.move_on_after(END_S):
                await process.wait()
            process.kill()
            await process.wait()
