"""How far a sweep is, with the time left, on a terminal; nothing elsewhere.

Owns what is shown. Refuses to know what runs.
"""

import datetime
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

Advance = Callable[[int], None]
"""Called when a run is over, with how many have failed by then."""


class _TimeLeft(ProgressColumn):
    """The time that the rest takes at the pace since the beginning.

    The library's own estimate looks at the last few steps, of which several come at
    once where several runs do.
    """

    def render(self, task: Task) -> Text:
        """The time left, of a sweep of which something is over."""
        if not task.completed or task.elapsed is None or task.total is None:
            return Text("-:--:--")
        left_s = task.elapsed / task.completed * (task.total - task.completed)
        return Text(str(datetime.timedelta(seconds=round(left_s))))


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
        _TimeLeft(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task(title, total=runs, failed="")

        def advance(failed: int) -> None:
            said = f", {failed} failed" if failed else ""
            progress.update(task, advance=1, failed=said)

        yield advance
