"""A small asyncio event loop that lives inside of trio, for `aioice` alone.

Owns the border between the two runtimes: trio's clock is the loop's clock, a
cancelled trio task cancels its asyncio task, and the loop is turned by one trio task
(and at once, when trio code calls in). Refuses everything an event loop can do
beyond tasks, futures and timers: no sockets, threads, signals, asynchronous generators.

Only what `asyncio` offers to implementers of event loops is used: `AbstractEventLoop`,
`Handle`, `TimerHandle`, `_set_running_loop`. It is the only file that imports asyncio.
"""

import asyncio
import contextvars
import heapq
import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeAlias, TypeVar, TypeVarTuple

import trio

from opnode.core.errors import LocalProtocolError

_log = logging.getLogger(__name__)

_Result = TypeVar("_Result")
_Arguments = TypeVarTuple("_Arguments")
_Work: TypeAlias = Coroutine[Any, Any, _Result]  # Any: only asyncio sees what it yields
_OldWork: TypeAlias = Generator[Any, None, _Result]  # Any: as above, for the base class

# A call from trio runs what it made ready at once, up to this many rounds; a chain that
# is longer goes on in the island's own task, so that it cannot starve trio.
_ROUNDS_PER_CALL = 32
# Tasks that do not end this long after they were cancelled are left behind, logged.
_SHUTDOWN_S = 2.0


class Island:
    """What trio code sees of the loop."""

    def __init__(self, loop: "_IslandLoop") -> None:
        self._loop = loop

    def call(
        self, function: Callable[[*_Arguments], _Result], *arguments: *_Arguments
    ) -> _Result:
        """Call a plain function on the loop and run what it made ready.

        Raises:
            trio.ClosedResourceError: the island is closed.
        """
        return self._loop.enter(function, *arguments)

    async def run(self, coroutine: _Work[_Result]) -> _Result:
        """Run an asyncio coroutine to its end; its exceptions are raised here.

        Cancelling the caller cancels the coroutine and waits for its end.

        Raises:
            trio.ClosedResourceError: the island is closed, or closed meanwhile.
            LocalProtocolError: the coroutine's task was cancelled from the inside.
        """
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            task = self._loop.enter(self._loop.create_task, coroutine)
        except (trio.Cancelled, trio.ClosedResourceError):
            # Or Python would warn about a coroutine that was never awaited.
            coroutine.close()
            raise
        if task.done():
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            await self._wait_done(task)
        if task.cancelled():
            if self._loop.is_closed() or self._loop.is_closing:
                raise trio.ClosedResourceError("the asyncio island was closed")
            raise LocalProtocolError("the asyncio task was cancelled from the inside")
        return task.result()

    async def _wait_done(self, task: "asyncio.Task[Any]") -> None:  # Any: not looked at
        """Sleep until the task is done; a cancellation goes to the task first."""
        sleeper = trio.lowlevel.current_task()
        raise_cancel: Callable[[], object] | None = None

        def wake(_: "asyncio.Task[Any]") -> None:  # Any: not looked at
            trio.lowlevel.reschedule(sleeper)

        def abort(raiser: Callable[[], object]) -> trio.lowlevel.Abort:
            nonlocal raise_cancel
            raise_cancel = raiser
            task.cancel()
            return trio.lowlevel.Abort.FAILED

        task.add_done_callback(wake)
        await trio.lowlevel.wait_task_rescheduled(abort)
        if raise_cancel is not None and task.cancelled():
            raise_cancel()


class OneShot(Generic[_Result]):
    """A value that one coroutine on the island waits for."""

    def __init__(self) -> None:
        self._value: _Result | None = None
        self._waiter: asyncio.Future[None] | None = None

    def set(self, value: _Result) -> None:
        """Hand the value over; the first one stays."""
        if self._value is None:
            self._value = value
            self._wake()

    async def wait(self, seconds: float) -> _Result | None:
        """The value, or None when it has not come after `seconds`."""
        if self._value is None:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(seconds, self._wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        return self._value

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


async def island_sleep(seconds: float) -> None:
    """Sleep, in a coroutine that runs on the island."""
    await asyncio.sleep(seconds)


def start_island_task(
    coroutine: _Work[_Result],
) -> "asyncio.Task[_Result]":
    """Start a task from code that already runs on the island."""
    return asyncio.create_task(coroutine)


@asynccontextmanager
async def open_island() -> AsyncIterator[Island]:
    """Run an island for the time of the block; tasks left in it are cancelled.

    The loop is turned by a system task of trio, because a nursery here would wrap every
    exception of the block in a group.
    """
    # typeshed calls everything abstract; at run time what we leave out raises
    # NotImplementedError, which is the refusal we want.
    loop = _IslandLoop()  # type: ignore[abstract] # see above
    trio.lowlevel.spawn_system_task(loop.turn_forever)
    try:
        yield Island(loop)
    finally:
        # Shielded, or a cancelled block would leave pending tasks behind; bounded.
        with trio.move_on_after(_SHUTDOWN_S) as scope:
            scope.shield = True
            await loop.end_tasks()
        await loop.shut_down()


class _IslandLoop(asyncio.AbstractEventLoop):
    """Ready callbacks in a queue, timers in a heap, time from trio."""

    def __init__(self) -> None:
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[asyncio.TimerHandle] = []
        self._cancelled_timers = 0
        # The island's task sleeps in this scope; a nearer deadline wakes it earlier.
        self._nap = trio.CancelScope()
        self._is_napping = False
        self._is_running = False
        self._is_closed = False
        self.is_closing = False
        self._stopped = trio.Event()

    # What asyncio's tasks, futures and timers need of a loop.

    def time(self) -> float:
        return trio.current_time()

    def call_soon(
        self,
        callback: Callable[[*_Arguments], object],
        *args: *_Arguments,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        if not self._is_running:
            self._wake_at(-math.inf)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Arguments], object],
        *args: *_Arguments,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Arguments], object],
        *args: *_Arguments,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, timer)
        self._wake_at(when)
        return timer

    def create_future(self) -> "asyncio.Future[Any]":  # Any: as in the base class
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: _Work[_Result] | _OldWork[_Result],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> "asyncio.Task[_Result]":
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._is_running

    def is_closed(self) -> bool:
        return self._is_closed

    def call_exception_handler(
        self,
        context: dict[str, Any],  # Any: as in the base class
    ) -> None:
        _log.error(
            "on the asyncio island: %s",
            context.get("message", "a callback failed"),
            exc_info=context.get("exception"),
        )

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:  # noqa: ARG002 - asyncio's hook
        self._cancelled_timers += 1

    # What the trio side needs.

    def enter(
        self, function: Callable[[*_Arguments], _Result], *arguments: *_Arguments
    ) -> _Result:
        """Call a function as code of this loop, then run what became ready."""
        if self._is_closed:
            raise trio.ClosedResourceError("the asyncio island is closed")
        if self._is_running:
            return function(*arguments)
        self._set_running(running=True)
        try:
            result = function(*arguments)
            for _ in range(_ROUNDS_PER_CALL):
                if not self._ready:
                    break
                self._run_round()
        finally:
            self._set_running(running=False)
            if self._ready:
                self._wake_at(-math.inf)
        return result

    async def turn_forever(self) -> None:
        """Run timers and what became ready outside of `enter`, until `shut_down`."""
        try:
            while not self._is_closed:
                self.enter(self._collect_due_timers)
                deadline = -math.inf if self._ready else self._next_timer()
                with trio.CancelScope(deadline=deadline) as self._nap:
                    self._is_napping = True
                    await trio.sleep_forever()
                self._is_napping = False
        finally:
            self._stopped.set()

    async def end_tasks(self) -> None:
        """Cancel all tasks and wait for their ends."""
        self.is_closing = True
        while tasks := [task for task in asyncio.all_tasks(self) if not task.done()]:
            all_done = trio.Event()
            pending = set(tasks)

            def one_done(
                task: "asyncio.Task[Any]",  # Any: the result is not looked at
                pending: "set[asyncio.Task[Any]]" = pending,
                all_done: trio.Event = all_done,
            ) -> None:
                pending.discard(task)
                if not pending:
                    all_done.set()

            for task in tasks:
                task.add_done_callback(one_done)
                task.cancel()
            await all_done.wait()

    async def shut_down(self) -> None:
        """Close the loop and end the task that turns it."""
        left = [task for task in asyncio.all_tasks(self) if not task.done()]
        for task in left:
            _log.error("left behind on the asyncio island: %r", task.get_name())
        self._is_closed = True
        self._ready.clear()
        self._timers.clear()
        self._wake_at(-math.inf)
        # It only has to notice, which takes one turn of trio.
        with trio.CancelScope(shield=True):
            await self._stopped.wait()

    def _collect_due_timers(self) -> None:
        now = self.time()
        while self._timers and (
            self._timers[0].cancelled() or self._timers[0].when() <= now
        ):
            timer = heapq.heappop(self._timers)
            if timer.cancelled():
                self._cancelled_timers -= 1
            else:
                self._ready.append(timer)

    def _next_timer(self) -> float:
        # Cancelled timers far in the future would pile up: most of them never expire.
        if self._cancelled_timers > len(self._timers) // 2:
            self._timers = [timer for timer in self._timers if not timer.cancelled()]
            heapq.heapify(self._timers)
            self._cancelled_timers = 0
        return self._timers[0].when() if self._timers else math.inf

    def _run_round(self) -> None:
        """Run what is ready now; what that makes ready is for the next round."""
        for _ in range(len(self._ready)):
            handle = self._ready.popleft()
            if not handle.cancelled():
                handle._run()  # private by name, but how every loop runs its handles

    def _set_running(self, *, running: bool) -> None:
        self._is_running = running
        asyncio._set_running_loop(self if running else None)

    def _wake_at(self, when: float) -> None:
        if self._is_napping and when < self._nap.deadline:
            self._nap.deadline = when
