"""The terminal's keyboard: lines from standard input, and questions to the user.

Owns reading standard input without blocking the loop. Refuses to know what is asked.
"""

import os
import sys
from collections.abc import AsyncGenerator
from typing import Final

import trio

READ_SIZE: Final = 4096

MAX_LINE: Final = 64 * 1024
"""Bytes gathered for one line; a longer one is cut there."""


async def stdin_lines() -> AsyncGenerator[str, None]:
    """Yield the lines of standard input until it ends.

    Waits for readiness and reads without a thread, so that it can be cancelled at any
    moment and takes nothing from the next reader of the terminal.
    """
    descriptor = sys.stdin.fileno()
    pending = bytearray()
    while True:
        data = await _read(descriptor)
        pending += data
        *lines, rest = bytes(pending).split(b"\n")
        pending[:] = rest
        for line in lines:
            yield _text(line)
        if not data or len(pending) > MAX_LINE:
            if pending:
                yield _text(bytes(pending))
                pending.clear()
            if not data:
                return


async def _read(descriptor: int) -> bytes:
    try:
        await trio.lowlevel.wait_readable(descriptor)
    except PermissionError:
        # A regular file is always readable; epoll refuses to watch it.
        await trio.lowlevel.checkpoint()
    return os.read(descriptor, READ_SIZE)


def _text(line: bytes) -> str:
    return line.rstrip(b"\r").decode("utf-8", "replace")
