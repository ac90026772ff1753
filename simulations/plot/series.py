"""Charts of time series: the median over the runs of one kind, with its band.

Owns how runs of different lengths and steps meet on one axis. Refuses to know the
figures of a run.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import polars

from simulations.plot.chart import Chart, Line, Point
from simulations.plot.choice import MOST_LINES, Axes, order_of, text, told, values_of
from simulations.plot.columns import Roles, Table, roles_of
from simulations.plot.spread import spread
from simulations.plot.words import Label, label
from simulations.run_context import Cell

BINS: Final = 200
"""Places on the time axis: as many as a column of a paper can show."""

_AT: Final = "_at"


class Series(NamedTuple):
    """One time series of many runs."""

    scenario: str
    name: str
    tables: Sequence[Table]


def series_charts(series: Series, axes: Axes) -> list[Chart]:
    """A chart for each column of numbers, and for each value that is apart."""
    if not series.tables:
        return []
    roles = roles_of(series.tables[0].frame)
    if not roles.x:
        return []
    charts = _charts(series, axes, roles)
    if axes.by and any(len(chart.lines) > MOST_LINES for chart in charts):
        # The series has lines of its own; so runs come apart first.
        charts = _charts(series, Axes("", (), (*axes.by, *axes.apart)), roles)
    return charts


def _charts(series: Series, axes: Axes, roles: Roles) -> list[Chart]:
    parts: dict[tuple[Cell, ...], list[Table]] = defaultdict(list)
    for table in series.tables:
        parts[values_of(table.row, axes.apart)].append(table)
    return [
        chart
        for apart in sorted(parts, key=order_of)
        for y in roles.ys
        if (chart := _chart(series._replace(tables=parts[apart]), axes, roles, y))
    ]


def _chart(series: Series, axes: Axes, roles: Roles, y: str) -> Chart | None:
    wanted = {roles.x, y, *roles.kinds}
    having = [table for table in series.tables if wanted <= set(table.frame.columns)]
    width = _bin_width([table.frame[roles.x].drop_nulls() for table in having])
    lines: dict[tuple[Cell, ...], dict[float, list[float]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for table in having:
        for kind, at, value in _binned(table.frame, roles, y, width):
            lines[(*values_of(table.row, axes.by), *kind)][at].append(value)
    if not lines:
        return None
    apart = told(axes.apart, values_of(having[0].row, axes.apart))
    return Chart(
        name="-".join([series.scenario, series.name, y, *apart]),
        title=", ".join([f"{series.scenario}: {series.name}", *apart]),
        x=_time_label(roles.x),
        y=label(y),
        lines=tuple(
            Line(
                name=_name([*axes.by, *roles.kinds], values),
                points=_points(lines[values]),
            )
            for values in sorted(lines, key=order_of)
        ),
    )


def _time_label(column: str) -> Label:
    unit = column.removeprefix("t_")
    return label(column if unit == column else f"time_{unit}")


def _name(names: Sequence[str], values: Sequence[Cell]) -> str:
    """What the legend says; words speak for themselves."""
    return ", ".join(
        value if isinstance(value, str) else f"{name}={text(value)}"
        for name, value in zip(names, values, strict=True)
    )


def _points(found: Mapping[float, Sequence[float]]) -> tuple[Point, ...]:
    return tuple(Point(at, spread(found[at])) for at in sorted(found))


def _bin_width(columns: Sequence[polars.Series]) -> float:
    """How much of the axis one place stands for; 0 where the places are few."""
    places = polars.concat([column.cast(polars.Float64) for column in columns]).unique()
    if len(places) <= BINS:
        return 0.0
    # Numbers, though the library cannot say so.
    return (float(str(places.max())) - float(str(places.min()))) / BINS


def _binned(
    frame: polars.DataFrame, roles: Roles, y: str, width: float
) -> Iterator[tuple[tuple[Cell, ...], float, float]]:
    """Means of a run's values at each place, for each kind."""
    at = polars.col(roles.x).cast(polars.Float64)
    if width:
        at = (at / width).floor() * width + width / 2
    means = (
        frame.drop_nulls([roles.x, y])
        .with_columns(at.alias(_AT))
        .group_by([*roles.kinds, _AT], maintain_order=True)
        .agg(polars.col(y).cast(polars.Float64).mean())
    )
    for *kind, place, value in means.iter_rows():
        yield tuple(kind), place, value
