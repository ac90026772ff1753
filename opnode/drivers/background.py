"""A nursery for background tasks of a block; knows nothing of what they do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_background() -> AsyncIterator[trio.Nursery]:
    """Run background tasks for the length of the block, then cancel them.

    What the block raises leaves as it is: one cause, no exception group around it. A
    task that fails is a bug; it ends the block and leaves as trio's exception group.
    """
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except BaseException as error:  # noqa: BLE001 - raised again below
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
