"""Output: lines of JSON for programs, text and progress bars for people.

Owns standard output, the way numbers are written, and that nothing shown can drive the
terminal, whoever wrote it. Refuses to know the events.
"""

import logging
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Final, TypeAlias

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from opnode.core.text import printable

UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")
STEP: Final = 1000
LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"

ExceptionInfo: TypeAlias = (
    tuple[type[BaseException], BaseException, TracebackType | None]
    | tuple[None, None, None]
)


class PipeConsole(Console):
    """A console whose reader may go away, as with `| head`, in the midst of a task."""

    def on_broken_pipe(self) -> None:
        """Leave as the error that it is; rich would end the program here."""
        raise BrokenPipeError


class Output:
    """Where a command reports; ``is_json`` decides for whom."""

    def __init__(self, *, is_json: bool) -> None:
        """Nothing is written yet."""
        self.is_json = is_json
        self.console = PipeConsole(highlight=False, soft_wrap=True)

    def event(self, event: object) -> None:
        """Write one JSON object in one line, at once; silent for people.

        What does not print is written as an escape of JSON: the same text to programs.
        """
        if self.is_json:
            click.echo(_printable_json(msgspec.json.encode(event).decode()))
            sys.stdout.flush()

    def text(self, line: str, *, style: str = "") -> None:
        """Write a line for people; silent for programs.

        The text is shown as it is: square brackets in it mean nothing, and neither do
        characters that drive terminals.
        """
        if not self.is_json:
            self.console.print(escape(printable(line)), style=style or None)

    def table(self, title: str, rows: Mapping[str, object]) -> None:
        """Show names and values for people, one pair in a line.

        No line is folded: an id or an invite is there to be copied.
        """
        if self.is_json:
            return
        if title:
            self.text(title, style="italic")
        width = max(map(len, rows), default=0)
        for name, value in rows.items():
            line = Text(f" {printable(name):<{width}}", style="dim")
            line.append(f"  {printable(str(value))}", style="not dim")
            self.console.print(line)


class PrintableFormatter(logging.Formatter):
    """One line per message, whatever a peer wrote into it; tracebacks keep theirs."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - overrides
        """The line without its traceback."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: ExceptionInfo) -> str:  # noqa: N802 - overrides
        """The traceback of a bug."""
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


def set_up_logging(*, is_verbose: bool) -> None:
    """Log to standard error: warnings, or with ``--verbose`` what happens."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter(LOG_FORMAT))
    level = logging.INFO if is_verbose else logging.WARNING
    logging.basicConfig(level=level, handlers=[handler])


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


def ms_text(value: float | None) -> str:
    """Write a time in milliseconds; ``None`` was not measured."""
    return "not measured" if value is None else f"{value:.1f} ms"


def _printable_json(line: str) -> str:
    """Write what does not print as escapes; letters of all languages stay."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else _json_escape(c) for c in line)


def _json_escape(character: str) -> str:
    """Escape by the UTF-16 code units, as RFC 8259 section 7 has it."""
    units = character.encode("utf-16-be").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))
