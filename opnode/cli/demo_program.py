"""The programs that a demonstration starts: `opnode` itself, as separate processes.

Owns their start, their lines of JSON and their end. Refuses to know what is shown with
them.
"""

import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import trio

from opnode.core.errors import OpnodeError
from opnode.daemon.control_messages import LineReader

LEAVE_S: Final = 0.8
"""What a program gets to leave the network before it is killed."""

MAX_LOG_TEXT: Final = 500

EVENTS: Final = msgspec.json.Decoder(dict[str, object])

Fields = Mapping[str, object]


class DemoFailed(OpnodeError):  # noqa: N818 - named as in opnode.core.errors
    """A step of the demonstration did not work; the text says which and why."""


class Program:
    """One running `opnode`, and what it has reported."""

    def __init__(self, name: str, directory: Path) -> None:
        """Nothing runs before ``start``."""
        self.name = name
        self.data = directory / name
        self._log = directory / f"{name}.log"
        self._process: trio.Process | None = None
        self._first: dict[str, Fields] = {}
        self._last: dict[str, Fields] = {}
        self._changed = trio.Event()
        self._has_ended = False

    @property
    def process_id(self) -> int | None:
        """The system's number of the process while it may run."""
        process = self._process
        return process.pid if process and process.returncode is None else None

    async def start(self, nursery: trio.Nursery, *arguments: str) -> None:
        """Start it; it is ended when the nursery is."""
        where = ("--json", "--data", str(self.data))
        command = [sys.executable, "-m", "opnode", *arguments, *where]
        log = await trio.to_thread.run_sync(self._log.open, "wb")
        with log:
            self._process = await nursery.start(
                partial(
                    trio.run_process,
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    check=False,
                    deliver_cancel=_end,
                    # Ctrl-C at the terminal is for the demonstration alone, which
                    # then ends its programs in order.
                    process_group=0,
                )
            )
        nursery.start_soon(self._read)

    async def wait_event(self, name: str) -> Fields:
        """Wait for the first event of that name.

        Raises:
            DemoFailed: the program ended before; tells what it wrote to its log.
        """
        while name not in self._first:
            await self._wait_change()
        return self._first[name]

    async def wait_received(self, count: int) -> int:
        """Wait until it has received that many bytes of a file; returns how many.

        Raises:
            DemoFailed: the program ended before.
        """
        while (done := self._received()) < count:
            await self._wait_change()
        return done

    async def kill(self) -> None:
        """End it like a power cut, and wait until it is gone."""
        if self._process is None:
            return
        self._process.kill()
        await self._process.wait()

    def _received(self) -> int:
        done = self._last.get("file progress", {}).get("done")
        return done if isinstance(done, int) else -1

    async def _wait_change(self) -> None:
        if self._has_ended:
            reason = await self._last_words()
            raise DemoFailed(f"the {self.name} ended early: {reason}")
        await self._changed.wait()

    async def _last_words(self) -> str:
        """Why it ended: its error, or what it wrote to its log if it had none."""
        message = self._last.get("error", {}).get("message")
        log = await trio.Path(self._log).read_text("utf-8", "replace")
        words = str(message or "") or log.strip()
        return words[-MAX_LOG_TEXT:] or "it said nothing"

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        lines = LineReader(self._process.stdout)
        while (line := await lines.receive_line_untrusted()) is not None:
            event = EVENTS.decode(line)
            name = str(event.get("event"))
            self._first.setdefault(name, event)
            self._last[name] = event
            self._notice()
        self._has_ended = True
        self._notice()

    def _notice(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


async def _end(process: trio.Process) -> None:
    process.terminate()
    with trio.move_on_after(LEAVE_S):
        await process.wait()
        return
    process.kill()
