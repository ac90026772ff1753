"""Introductions tried one after the other: whether they succeed, and for how long not.

Owns callers, callees that take every call, and the judgement of a call. Refuses to know
what is done to the network meanwhile.
"""

import contextlib
from typing import Final

import msgspec
import trio

from opnode.core.errors import NetworkError
from opnode.core.ids import PeerId, short
from opnode.node.node import OverlayNode
from simulations.checkers.endings import EndingChecker
from simulations.quantiles import quantile

CALL_S: Final = 15.0
"""A call that takes longer failed: nobody waits that long."""

_HANG_UP_S: Final = 15.0
"""Saying goodbye over a path that is dead takes a few retransmissions."""


class Calls(msgspec.Struct, frozen=True, kw_only=True):
    """What many calls brought; times are virtual seconds of those that succeeded."""

    tried: int
    succeeded: int
    success: float
    s_median: float
    s_p99: float


async def take_calls(node: OverlayNode) -> None:
    """Accept every connection and hold it until the caller ends it."""
    while True:
        await node.accept_connection()


async def call(caller: OverlayNode, callee: PeerId) -> float | None:
    """Call and hang up; the seconds until the connection, None when it failed.

    Raises:
        ViolationError: it did not end in its time.
    """
    endings = EndingChecker(CALL_S + _HANG_UP_S)
    began_at = trio.current_time()
    number = endings.begin(began_at, f"a call to {short(callee)}")
    took_s = None
    with trio.move_on_after(CALL_S), contextlib.suppress(NetworkError):
        async with contextlib.aclosing(await caller.connect(callee)):
            took_s = trio.current_time() - began_at
    endings.end(trio.current_time(), number)
    return took_s


def calls_of(seconds: list[float | None]) -> Calls:
    """What so many calls brought; None stands for a failure."""
    made = [one for one in seconds if one is not None]
    return Calls(
        tried=len(seconds),
        succeeded=len(made),
        success=len(made) / max(len(seconds), 1),
        s_median=quantile(made, 0.5),
        s_p99=quantile(made, 0.99),
    )
