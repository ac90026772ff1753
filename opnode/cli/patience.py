"""Patience: a word to whoever waits for the end of something, if it takes long.

Owns the waiting, which goes on when the command is already cancelled. Refuses to know
what is waited for and what is said.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import trio

from opnode.drivers.background import open_background


@asynccontextmanager
async def told_if_slow(
    seconds: float, tell: Callable[[], None]
) -> AsyncGenerator[trio.Event, None]:
    """Call ``tell`` if the block goes on for so long after the event that it gets.

    Whoever is in the block sets the event; nothing is told before.
    """
    begun, ended = trio.Event(), trio.Event()

    async def wait() -> None:
        # Shielded, as this is for blocks that are cancelled; the block's end ends it.
        with trio.CancelScope(shield=True):
            await begun.wait()
            with trio.move_on_after(seconds):
                await ended.wait()
                return
            tell()

    async with open_background() as nursery:
        nursery.start_soon(wait)
        try:
            yield begun
        finally:
            ended.set()
            begun.set()
