"""Sessions as somebody saw them: a CSV file of starts and ends in seconds.

Owns the format and its limits. Refuses to know whose sessions they were.
"""

import csv
import itertools
import math
from pathlib import Path
from typing import Final

from opnode.core.errors import ConfigError

MAX_SESSIONS: Final = 5_000_000
"""A node each: 200 MB."""
_HEADER: Final = ["start", "end"]
_ROW: Final = "start,end in seconds, 0 <= start < end, as in 12.5,3600"


def read_sessions(path: Path) -> list[tuple[float, float]]:
    """The sessions of a file, sorted by start; its first line may be ``start,end``.

    Raises:
        ConfigError: it cannot be read, or names the line that is no session.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [
                _parsed(path, number, row)
                for number, row in enumerate(
                    itertools.islice(csv.reader(file), MAX_SESSIONS + 2), start=1
                )
                if row and not (number == 1 and _cells(row) == _HEADER)
            ]
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError("trace of sessions", f"{path}: {reason}", "a file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        expected = f"a CSV file, each line {_ROW}"
        raise ConfigError("trace of sessions", f"{path}: {error}", expected) from error
    if not rows:
        raise ConfigError(
            "trace of sessions", f"{path}: no session", f"lines of {_ROW}"
        )
    if len(rows) > MAX_SESSIONS:
        expected = f"at most {MAX_SESSIONS:,}"
        raise ConfigError("trace of sessions", f"{path}: more sessions", expected)
    return sorted(rows)


def _cells(row: list[str]) -> list[str]:
    return [cell.strip().lower() for cell in row]


def _parsed(path: Path, number: int, row: list[str]) -> tuple[float, float]:
    where = f"line {number} of {path}"
    try:
        start, end = map(float, row)
    except ValueError:
        raise ConfigError(where, repr(",".join(row)[:80]), _ROW) from None
    if not (0 <= start < end and math.isfinite(end)):
        raise ConfigError(where, repr(",".join(row)[:80]), _ROW)
    return start, end
