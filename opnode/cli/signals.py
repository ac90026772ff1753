"""Signals: the first Ctrl-C, SIGTERM or hang-up ends cleanly, the second at once.

Owns the process's signal handlers while a command runs. Refuses to know the command.
"""

import os
import signal
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Final

import trio

NAMES: Final = ("SIGINT", "SIGTERM", "SIGHUP")
HARD_EXIT_CODE: Final = 1

Main = Callable[[], Awaitable[None]]


def run_until_signal(
    main: Main, *, on_hard_exit: Callable[[], None] | None = None
) -> bool:
    """Run ``main`` in trio; returns whether a signal ended it.

    Args:
        main: What to run; cancelled by the first signal, which gives it the time that
            its own clean-up is bound to.
        on_hard_exit: Called in the handler of the second signal, before the process
            ends without further ado.
    """
    return trio.run(_run, main, on_hard_exit)


async def _run(main: Main, on_hard_exit: Callable[[], None] | None) -> bool:
    was_signalled = False

    async def watch(
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        nonlocal was_signalled
        with trio.open_signal_receiver(*_ending_signals()) as signals:
            task_status.started()
            await anext(signals)
        was_signalled = True
        _exit_on_next(on_hard_exit)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        await nursery.start(watch)
        await main()
        nursery.cancel_scope.cancel()
    return was_signalled


def _exit_on_next(on_hard_exit: Callable[[], None] | None) -> None:
    def leave(number: int, frame: FrameType | None) -> None:
        del number, frame
        if on_hard_exit is not None:
            on_hard_exit()
        os._exit(HARD_EXIT_CODE)

    for number in _ending_signals():
        signal.signal(number, leave)


def _ending_signals() -> list[signal.Signals]:
    """Those that this system has and that are not ignored, as under `nohup`."""
    known = [signal.Signals[name] for name in NAMES if hasattr(signal, name)]
    return [number for number in known if signal.getsignal(number) != signal.SIG_IGN]
