"""Virtual time and a repeatable scheduler for whole runs.

Owns the switch that makes trio's scheduler deterministic and a wall clock that follows
trio's clock. Refuses to know what runs.
"""

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

import trio
import trio.testing

# trio offers this switch to testing tools only; a test guards that it still works.
from trio._core import _run as trio_run

_Result = TypeVar("_Result")
_Arguments = TypeVarTuple("_Arguments")

# Declared final in trio, so it is set by name.
_SWITCH = "_ALLOW_DETERMINISTIC_SCHEDULING"

# 2026-01-01: virtual runs start at a fixed date, so their records are repeatable.
DEFAULT_BASE = 1_767_225_600.0


class VirtualWallClock:
    """A `WallClock` that shows a base date plus trio's clock.

    Args:
        base: Unix time in seconds that trio's time 0 stands for.
    """

    def __init__(self, base: float = DEFAULT_BASE) -> None:
        self._base = base

    def __call__(self) -> float:
        """Unix time in seconds; only inside of trio."""
        return self._base + trio.current_time()

    def jump(self, seconds: float) -> None:
        """Move the wall clock alone, as an administrator or NTP does."""
        self._base += seconds


def run_deterministic(
    main: Callable[[*_Arguments], Awaitable[_Result]],
    seed: int,
    *arguments: *_Arguments,
) -> _Result:
    """Run `main` in virtual time, with tasks scheduled in an order fixed by `seed`.

    Only for synchronous callers; the switch is put back afterwards.
    """
    allowed_before = trio_run._ALLOW_DETERMINISTIC_SCHEDULING
    state_before = trio_run._r.getstate()
    setattr(trio_run, _SWITCH, True)
    trio_run._r.setstate(random.Random(seed).getstate())  # noqa: S311 - repeatable on purpose
    try:
        clock = trio.testing.MockClock(autojump_threshold=0)
        return trio.run(main, *arguments, clock=clock)
    finally:
        setattr(trio_run, _SWITCH, allowed_before)
        trio_run._r.setstate(state_before)
