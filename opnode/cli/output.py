"""Output: lines of JSON for programs, text and progress bars for people.

Owns standard output and the way numbers are written. Refuses to know the events.
"""

import logging
import sys
from collections.abc import Mapping
from typing import Final

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")
STEP: Final = 1000


class Output:
    """Where a command reports; ``is_json`` decides for whom."""

    def __init__(self, *, is_json: bool) -> None:
        """Nothing is written yet."""
        self.is_json = is_json
        self.console = Console(highlight=False, soft_wrap=True)

    def event(self, event: object) -> None:
        """Write one JSON object in one line, at once; silent for people."""
        if self.is_json:
            click.echo(msgspec.json.encode(event).decode())
            sys.stdout.flush()

    def text(self, line: str, *, style: str = "") -> None:
        """Write a line for people; silent for programs.

        The text is shown as it is: square brackets in it mean nothing.
        """
        if not self.is_json:
            self.console.print(escape(line), style=style or None)

    def table(self, title: str, rows: Mapping[str, object]) -> None:
        """Show names and values for people, without lines around."""
        if self.is_json:
            return
        grid = Table(title=title, title_justify="left", box=None, show_header=False)
        grid.add_column(style="dim")
        grid.add_column(overflow="fold")
        for name, value in rows.items():
            grid.add_row(escape(name), escape(str(value)))
        self.console.print(grid)


def set_up_logging(*, is_verbose: bool) -> None:
    """Log to standard error: warnings, or with ``--verbose`` what happens."""
    logging.basicConfig(
        level=logging.INFO if is_verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )


def size_text(count: float) -> str:
    """Write a number of bytes: 1234567 becomes "1.2 MB"."""
    for unit in UNITS[:-1]:
        if count < STEP:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= STEP
    return f"{count:.1f} {UNITS[-1]}"


def rate_text(count: float, seconds: float) -> str:
    """Write a rate: bytes in a time."""
    return f"{size_text(count / seconds)}/s" if seconds > 0 else "at once"
