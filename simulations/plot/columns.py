"""The columns of a time series: which goes across, which tell lines apart, which rise.

Owns the reading of the files and that rule. Refuses to know how they are drawn.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import polars

from simulations.plot.rows import Row

_MOST_KINDS: Final = 12
"""Values of a column that may become lines; more are names, not kinds."""


class Roles(NamedTuple):
    """What columns are for. `x` is empty where nothing can go across."""

    x: str
    kinds: tuple[str, ...]
    ys: tuple[str, ...]


class Table(NamedTuple):
    """One series of one run."""

    row: Row
    frame: polars.DataFrame


class Problem(NamedTuple):
    """A file that could not be read, and why."""

    place: str
    reason: str


def tables(
    directory: Path, rows: Sequence[Row], series: str
) -> Iterator[Table | Problem]:
    """Read the files of one series, one after the other; empty ones are left out."""
    for row in rows:
        place = row.result.series.get(series)
        if place is None:
            continue
        try:
            frame = polars.read_parquet(directory / place)
        except (OSError, polars.exceptions.PolarsError) as error:
            yield Problem(place, str(error).splitlines()[0])
            continue
        if frame.height:
            yield Table(row, frame)


def roles_of(frame: polars.DataFrame) -> Roles:
    """Find what tells one row from the next; it comes before what was measured.

    The first columns that are together different in every row are places: a time goes
    across, or else the number with the most values, and the others tell lines apart.
    Where there are none, or too many of a kind, rows of one time are averaged.
    """
    for many in range(1, len(frame.columns) + 1):
        keys = frame.columns[:many]
        if frame.select(keys).is_duplicated().any():
            continue
        x = _across(frame, keys)
        others = tuple(name for name in keys if name != x)
        ys = tuple(_numeric(frame, frame.columns[many:]))
        few = all(frame[name].n_unique() <= _MOST_KINDS for name in others)
        if x and ys and few:
            return Roles(x, others, ys)
        break
    x = _across(frame, [name for name in frame.columns if _is_time(name)])
    words = (name for name in frame.columns if frame[name].dtype == polars.String)
    kinds = tuple(name for name in words if frame[name].n_unique() <= _MOST_KINDS)
    rest = (name for name in _numeric(frame, frame.columns) if name != x)
    return Roles(x, kinds, tuple(rest))


def _across(frame: polars.DataFrame, names: Sequence[str]) -> str:
    numeric = _numeric(frame, names)
    times = [name for name in numeric if _is_time(name)]
    return max(times or numeric, key=lambda name: frame[name].n_unique(), default="")


def _is_time(name: str) -> bool:
    return name.startswith("t_") or name == "t"


def _numeric(frame: polars.DataFrame, names: Sequence[str]) -> list[str]:
    return [name for name in names if frame[name].dtype.is_numeric()]
