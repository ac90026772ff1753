"""Charts of time series: the median over the runs of one kind, with its band.

Owns how runs of different lengths and steps meet on one axis. Refuses to know the
figures of a run.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import polars

from simulations.plot.chart import Chart, Line, Point
from simulations.plot.choice import Axes, order_of, told, values_of
from simulations.plot.rows import Row
from simulations.plot.spread import spread
from simulations.plot.words import Label, label
from simulations.run_context import Cell

BINS: Final = 200
"""Places on the time axis: as many as a column of a paper can show."""
_MOST_KINDS: Final = 6
"""Texts of a column that may become lines; more are names, not kinds."""

_AT: Final = "_at"


class Table(NamedTuple):
    """One series of one run, its columns told apart."""

    row: Row
    frame: polars.DataFrame
    x: str
    kinds: tuple[str, ...]
    ys: tuple[str, ...]


class Problem(NamedTuple):
    """A file that could not be read, and why."""

    place: str
    reason: str


def tables(
    directory: Path, rows: Sequence[Row], series: str
) -> Iterator[Table | Problem]:
    """Read the files of one series, one after the other."""
    for row in rows:
        place = row.result.series.get(series)
        if place is None:
            continue
        try:
            frame = polars.read_parquet(directory / place)
        except (OSError, polars.exceptions.PolarsError) as error:
            yield Problem(place, str(error).splitlines()[0])
            continue
        yield _table(row, frame)


def _table(row: Row, frame: polars.DataFrame) -> Table:
    numeric = [name for name in frame.columns if frame[name].dtype.is_numeric()]
    times = [name for name in numeric if name.startswith("t_") or name == "t"]
    x = (times or numeric or [""])[0]
    kinds = tuple(
        name
        for name in frame.columns
        if frame[name].dtype == polars.String and frame[name].n_unique() <= _MOST_KINDS
    )
    return Table(row, frame, x, kinds, tuple(name for name in numeric if name != x))


def series_charts(
    title: str, series: str, found: Sequence[Table], axes: Axes
) -> list[Chart]:
    """A chart for each column of numbers, and for each value that is apart."""
    shown = [table for table in found if table.ys and table.frame.height]
    if not shown:
        return []
    parts: dict[tuple[Cell, ...], list[Table]] = defaultdict(list)
    for table in shown:
        parts[values_of(table.row, axes.apart)].append(table)
    names = dict.fromkeys(y for table in shown for y in table.ys)
    return [
        chart
        for apart in sorted(parts, key=order_of)
        for y in names
        if (chart := _chart(title, series, y, axes, parts[apart])) is not None
    ]


def _chart(
    title: str, series: str, y: str, axes: Axes, found: Sequence[Table]
) -> Chart | None:
    having = [table for table in found if y in table.ys]
    if not having:
        return None
    width = _bin_width(having)
    lines: dict[tuple[Cell, ...], dict[float, list[float]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for table in having:
        for kind, at, value in _binned(table, y, width):
            lines[(*values_of(table.row, axes.by), *kind)][at].append(value)
    if not lines:
        return None
    apart = told(axes.apart, values_of(having[0].row, axes.apart))
    return Chart(
        name="-".join([title, series, y, *apart]),
        title=", ".join([f"{title}: {series}", *apart]),
        x=_time_label(having[0].x),
        y=label(y),
        lines=tuple(
            Line(
                name=_name(axes, values),
                points=_points(lines[values]),
            )
            for values in sorted(lines, key=order_of)
        ),
    )


def _time_label(column: str) -> Label:
    unit = column.removeprefix("t_")
    return label(column if unit == column else f"time_{unit}")


def _name(axes: Axes, values: Sequence[Cell]) -> str:
    """What the legend says; kinds speak for themselves."""
    shown = told(axes.by, values[: len(axes.by)])
    return ", ".join([*shown, *map(str, values[len(axes.by) :])])


def _points(found: Mapping[float, Sequence[float]]) -> tuple[Point, ...]:
    return tuple(Point(at, spread(found[at])) for at in sorted(found))


def _bin_width(found: Sequence[Table]) -> float:
    """How much of the axis one place stands for; 0 where the places are few."""
    places: set[float] = set()
    for table in found:
        places.update(table.frame[table.x].drop_nulls().unique().to_list())
        if len(places) > BINS:
            break
    else:
        return 0.0
    edges = [
        (float(str(table.frame[table.x].min())), float(str(table.frame[table.x].max())))
        for table in found
    ]
    return (max(high for _, high in edges) - min(low for low, _ in edges)) / BINS


def _binned(
    table: Table, y: str, width: float
) -> Iterator[tuple[tuple[str, ...], float, float]]:
    """Means of a run's values at each place, for each kind."""
    at = polars.col(table.x).cast(polars.Float64)
    if width:
        at = (at / width).floor() * width + width / 2
    frame = (
        table.frame.drop_nulls([table.x, y])
        .with_columns(at.alias(_AT))
        .group_by([*table.kinds, _AT], maintain_order=True)
        .agg(polars.col(y).cast(polars.Float64).mean())
    )
    for *kind, place, value in frame.iter_rows():
        yield tuple(map(str, kind)), place, value
