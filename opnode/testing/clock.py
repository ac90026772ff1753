"""Virtual time and a repeatable scheduler for whole runs.

Owns the switch that makes trio's scheduler deterministic and a wall clock that follows
trio's clock. Refuses to know what runs.
"""

import heapq
import math
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

import trio

# trio offers this switch to testing tools only; a test guards that it still works.
from trio._core import _run as trio_run

_Result = TypeVar("_Result")
_Arguments = TypeVarTuple("_Arguments")

# Declared final in trio, so it is set by name.
_SWITCH = "_ALLOW_DETERMINISTIC_SCHEDULING"

# 2026-01-01: virtual runs start at a fixed date, so their records are repeatable.
DEFAULT_BASE = 1_767_225_600.0


# Alarms in a row before trio gets its turn, also to hear a Ctrl-C.
_ALARMS_IN_A_ROW = 1000


class VirtualClock(trio.abc.Clock):
    """Time that passes only when nobody has anything to do, and then at once.

    trio's own `MockClock` needs a round of the scheduler to notice that, another to
    jump, and a task with a deadline for whatever is to happen: half of the CPU of a
    network. Here a function can be called at an instant (`call_at`), without a task.
    Threads and real sockets are not waited for.

    Attributes:
        now: seconds, 0 at the start; what `trio.current_time` says, for who asks often.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._order = 0
        self._alarms: list[tuple[float, int, Callable[[], object]]] = []

    def start_clock(self) -> None:
        """See `trio.abc.Clock`."""

    def current_time(self) -> float:
        """See `trio.abc.Clock`; seconds, 0 at the start."""
        return self.now

    def call_at(self, at: float, alarm: Callable[[], object]) -> None:
        """Call a function then, or as soon as nobody runs if that has passed.

        It is called outside of any task, must be quick and not raise. Those of one
        instant are called in the order of the calls here, tasks that they wake run
        before time goes on.
        """
        self._order += 1
        heapq.heappush(self._alarms, (at, self._order, alarm))

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Called by trio when no task can run: go on to what is next."""
        runner = trio_run.GLOBAL_RUN_CONTEXT.runner
        alarms = self._alarms
        for _ in range(_ALARMS_IN_A_ROW):
            at = alarms[0][0] if alarms else math.inf
            if at > self.now and runner.waiting_for_idle:
                # Whoever waits until all are blocked comes before time goes on.
                return math.inf
            if at > deadline or at == math.inf:
                break
            self.now = max(self.now, at)
            heapq.heappop(alarms)[2]()
            if runner.runq:
                return 0.0
            deadline = runner.deadlines.next_deadline()
        else:
            return 0.0
        if deadline == math.inf:
            return math.inf
        self.now = max(self.now, deadline)
        return 0.0


def virtual_clock() -> VirtualClock | None:
    """The clock of this run if it is a virtual one of ours."""
    clock = trio_run.GLOBAL_RUN_CONTEXT.runner.clock
    return clock if type(clock) is VirtualClock else None


def call_as(task: trio.lowlevel.Task, function: Callable[[], object]) -> None:
    """Call a function from an alarm as if this task, which sleeps, had called it."""
    context = trio_run.GLOBAL_RUN_CONTEXT
    context.task = task
    try:
        function()
    finally:
        del context.task


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
        return trio.run(main, *arguments, clock=VirtualClock())
    finally:
        setattr(trio_run, _SWITCH, allowed_before)
        trio_run._r.setstate(state_before)
