"""``python -m simulations replay TRACE``: a run again, with a readable log.

Owns which steps are shown. Refuses to know what they mean.
"""

import collections
import sys
from pathlib import Path
from typing import Final

import click
import msgspec

from simulations.run_context import Run
from simulations.runs import attempt, prepare_process
from simulations.traces import read_trace

_DIFFERENT: Final = 1
_INTERRUPTED: Final = 130
_MAX_LAST: Final = 100_000
"""Lines kept for the end: about 20 MB."""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which steps are shown.

    Attributes:
        from_s, to_s: virtual seconds, both included.
        about: what must stand in a step's line.
        last: only so many, the last ones; None for all.
        step: wait for Enter after each line.
    """

    from_s: float
    to_s: float
    about: str
    last: int | None
    step: bool


@click.command()
@click.argument("trace", type=click.Path(path_type=Path))
@click.option("--from-s", type=float, default=0.0, help="Virtual seconds; default: 0.")
@click.option("--to-s", type=float, default=float("inf"), help="Virtual seconds.")
@click.option(
    "--about", default="", help="Only steps with this in them: an address, a word."
)
@click.option(
    "--last", type=click.IntRange(1, _MAX_LAST), help="Only so many, the last ones."
)
@click.option("--step", is_flag=True, help="Wait for Enter after each line.")
def replay(trace: Path, **selection: float | str | int | bool | None) -> None:
    """Run again what TRACE was written of, and show its steps.

    TRACE is a file of `run --trace`, or one that a failed run left in DIR/traces. In
    the end it says whether the run repeated itself, down to its digest.
    """
    written = read_trace(trace)
    scenario = written.build()
    log = StepLog(msgspec.convert(selection, Selection))
    prepare_process()
    context = Run(scenario.seed, watch=log.tell)
    try:
        outcome = attempt(scenario, context, catch=(Exception,))
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    log.end()
    if difference := written.difference(outcome):
        click.echo(f"not the same: {difference}", err=True)
        sys.exit(_DIFFERENT)
    click.echo(outcome.error or f"the same: digest {outcome.digest}")


class StepLog:
    """Shows steps, one a line: time, who, what."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._kept: collections.deque[str] = collections.deque(maxlen=selection.last)

    def tell(self, at_s: float, who: str, what: str) -> None:
        """A step was made."""
        selection = self._selection
        if not selection.from_s <= at_s <= selection.to_s:
            return
        line = f"{at_s:14.6f}  {who}  {what}"
        if selection.about not in line:
            return
        if selection.last is not None:
            self._kept.append(line)
        else:
            self._show(line)

    def end(self) -> None:
        """Show what was kept for the end."""
        for line in self._kept:
            self._show(line)

    def _show(self, line: str) -> None:
        click.echo(line)
        if self._selection.step:
            click.pause("")
