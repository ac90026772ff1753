"""How far a sweep is, with the time left, on a terminal; nothing elsewhere.

Owns what is shown. Refuses to know what runs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Advance = Callable[[int], None]
"""Called when a run is over, with how many have failed by then."""

_ETA_WINDOW_S = 600.0
"""Runs of a sweep differ in size, so that a short memory would make the time jump."""


@contextmanager
def shown_sweep(title: str, runs: int) -> Iterator[Advance]:
    """Show how many of the runs are over."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("runs{task.fields[failed]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        speed_estimate_period=_ETA_WINDOW_S,
    ) as progress:
        task = progress.add_task(title, total=runs, failed="")

        def advance(failed: int) -> None:
            said = f", {failed} failed" if failed else ""
            progress.update(task, advance=1, failed=said)

        yield advance
