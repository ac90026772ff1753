"""The choice of axes: what is drawn against what, when nobody says so or somebody does.

Owns the rule: the numeric parameter with the most values goes to the horizontal axis,
the others become lines, and those for which there are no lines left become charts of
their own. Refuses to know how a chart looks.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from opnode.core.errors import ConfigError
from simulations.plot.chart import Chart, Line, Point
from simulations.plot.rows import SEED, Row
from simulations.plot.spread import spread
from simulations.plot.words import Label, label, number
from simulations.run_context import Cell

MOST_LINES: Final = 12
"""More lines in one chart cannot be told apart."""
_SEEDS_NAMED: Final = 20
"""So many fit side by side."""

Describe = Callable[[str], Label]
"""What stands at the axis of a parameter."""


class Axes(NamedTuple):
    """Names of parameters: across, as lines, and one chart for each value."""

    x: str
    by: tuple[str, ...]
    apart: tuple[str, ...]


def varied(rows: Sequence[Row]) -> tuple[str, ...]:
    """Parameters of which there are several values, as the scenario orders them."""
    names = dict.fromkeys(name for row in rows for name in row.parameters)
    return tuple(
        name for name in names if len({row.parameters.get(name) for row in rows}) > 1
    )


def choose(rows: Sequence[Row], x: str | None = None, by: str | None = None) -> Axes:
    """Choose axes; what the user chose stays.

    Raises:
        ConfigError: Nothing of that name can be told apart.
    """
    several = varied(rows)
    known = {name for row in rows for name in row.parameters} | {SEED}
    for option, name in (("--x", x), ("--by", by)):
        if name is not None and name not in known:
            raise ConfigError(option, name, f"one of {', '.join(sorted(known))}")
    if x is None:
        x = _across(rows, [name for name in several if name != by])
    lines = [by] if by else []
    apart = [name for name in several if name not in (x, *lines)]
    while apart and not by and kinds_of(rows, [*lines, apart[0]]) <= MOST_LINES:
        lines.append(apart.pop(0))
    return Axes(x, tuple(lines), tuple(apart))


def _across(rows: Sequence[Row], several: Sequence[str]) -> str:
    """What goes to the horizontal axis: numbers first, then many values."""

    def rank(name: str) -> tuple[bool, int]:
        values = {row.parameters.get(name) for row in rows}
        return all(map(_is_number, values)), len(values)

    return max(several, key=rank, default=SEED)


def kinds_of(rows: Sequence[Row], names: Sequence[str]) -> int:
    """How many combinations of values there are of these parameters."""
    return len({values_of(row, names) for row in rows})


def values_of(row: Row, names: Sequence[str]) -> tuple[Cell, ...]:
    """A run's values of these parameters."""
    return tuple(row.seed if n == SEED else row.parameters.get(n, "") for n in names)


def grouped(
    rows: Sequence[Row], names: Sequence[str]
) -> list[tuple[tuple[Cell, ...], list[Row]]]:
    """Rows by their values of these parameters, in the order of the values."""
    groups: dict[tuple[Cell, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[values_of(row, names)].append(row)
    return sorted(groups.items(), key=lambda group: order_of(group[0]))


def _is_number(value: Cell | None) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def charts(
    title: str, rows: Sequence[Row], figure: str, axes: Axes, describe: Describe
) -> list[Chart]:
    """The charts of one figure: one, or as many as there are values apart."""
    having = [row for row in rows if figure in row.figures]
    return [
        _chart(title, part, figure, axes, describe)
        for _, part in grouped(having, axes.apart)
    ]


def _chart(
    title: str, rows: Sequence[Row], figure: str, axes: Axes, describe: Describe
) -> Chart:
    places = sorted({values_of(row, (axes.x,))[0] for row in rows}, key=_place_order)
    # Seeds are names, though they are written as numbers.
    seeds = axes.x == SEED
    named = not all(map(_is_number, places)) or (seeds and len(places) <= _SEEDS_NAMED)
    apart = told(axes.apart, values_of(rows[0], axes.apart))
    return Chart(
        name="-".join([title, figure, *apart]),
        title=", ".join([title, *apart]),
        x=describe(axes.x),
        y=label(figure),
        legend=describe(axes.by[0]).text if len(axes.by) == 1 else "",
        ticks=tuple(map(text, places)) if named else (),
        joined=not named and not seeds,
        lines=tuple(
            Line(
                name=_line_name(axes.by, values),
                points=_points(group, figure, axes.x, places if named else ()),
            )
            for values, group in grouped(rows, axes.by)
        ),
    )


def _points(
    rows: Sequence[Row], figure: str, x: str, places: Sequence[Cell]
) -> tuple[Point, ...]:
    """Spreads from left to right; `places` numbers values that are none."""
    found: dict[float, list[float]] = defaultdict(list)
    for row in rows:
        (value,) = values_of(row, (x,))
        at = places.index(value) if places else float(value)
        found[at].append(row.figures[figure])
    return tuple(Point(at, spread(found[at])) for at in sorted(found))


def _line_name(names: Sequence[str], values: tuple[Cell, ...]) -> str:
    if len(names) == 1:
        return text(values[0])
    return ", ".join(told(names, values))


def told(names: Sequence[str], values: Sequence[Cell]) -> list[str]:
    """Parameters with their values, as `k=20`."""
    return [f"{n}={text(value)}" for n, value in zip(names, values, strict=True)]


def text(value: Cell) -> str:
    """A value as the command line takes it, or shorter."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return number(value)


def order_of(values: Sequence[Cell]) -> list[tuple[float, str]]:
    """Sorts values as people do."""
    return [_place_order(value) for value in values]


def _place_order(value: Cell) -> tuple[float, str]:
    """Numbers by size, then words by letters."""
    if isinstance(value, int | float):
        return float(value), ""
    return math.inf, value
