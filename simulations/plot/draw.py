"""Drawing: a chart becomes a PNG, SVG or PDF as a paper prints it.

Owns colours, fonts and sizes. Refuses to know where the values come from. The same
chart gives the same bytes, so that a figure under version control changes only with its
values.
"""

import io
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from simulations.plot.chart import Chart, Line


class Format(StrEnum):
    """What a figure is written as."""

    PNG = "png"
    SVG = "svg"
    PDF = "pdf"


_COLOURS: Final = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
)
"""Okabe and Ito (2008), told apart without red or green; its yellow is left out, which
white paper swallows."""
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
_DASHES: Final = ("-", "--", "-.", ":")
"""Of four and seven, so that 28 lines differ, and equal ones show below each other."""
_INCHES: Final = (5.2, 3.4)
_DOTS_PER_INCH: Final = 200
_LEGEND_INSIDE: Final = 4
"""More lines than these cover points when the legend stands among them."""
_PLACES_NAMED: Final = 8
"""So few places on the horizontal axis are all named there."""
_PLAIN: Final = (0.001, 10_000)
"""Powers of ten are written out on an axis that stays between these."""
_SLOT: Final = 0.5
"""Lines stand beside each other within this share of a place that has a name."""


def drawn(chart: Chart, kind: Format) -> bytes:
    """Draw a chart."""
    # The settings of this thread only: whoever imports us keeps theirs.
    with _style():
        figure = Figure(figsize=_INCHES, dpi=_DOTS_PER_INCH, layout="constrained")
        axes = figure.add_subplot()
        _scale(axes, chart)
        for number, line in enumerate(chart.lines):
            if chart.ticks:
                _marks(axes, line, number, _slot(number, len(chart.lines)))
            else:
                _line(axes, line, number, chart)
        _name(axes, chart)
        _legend(figure, axes, chart)
        file = io.BytesIO()
        figure.savefig(file, format=kind.value, metadata=_metadata(kind))
    return file.getvalue()


def _style() -> AbstractContextManager[None]:
    """Small, quiet, and with letters that a publisher takes."""
    return mpl.rc_context(
        {
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#e4e4e4",
            "grid.linewidth": 0.6,
            "legend.frameon": False,
            "legend.fontsize": 8,
            # Long enough for a whole dash with its dot.
            "legend.handlelength": 2.8,
            "legend.title_fontsize": 8,
            "lines.linewidth": 1.4,
            "lines.markersize": 4.5,
            # Letters stay letters, as publishers ask: TrueType in PDF. In SVG they are
            # outlines, because a reader's machine may lack the font.
            "pdf.fonttype": 42,
            "svg.fonttype": "path",
            "svg.hashsalt": "opnode",
        }
    )


def _metadata(kind: Format) -> dict[str, str | None]:
    """Without the date, which would make every file another one."""
    match kind:
        case Format.PNG:
            return {"Software": None}
        case Format.SVG:
            return {"Date": None, "Creator": None}
        case Format.PDF:
            return {"CreationDate": None, "Creator": None, "Producer": None}


def _scale(axes: Axes, chart: Chart) -> None:
    points = [point for line in chart.lines for point in line.points]
    across = [point.x for point in points]
    upwards = [edge for point in points for edge in (point.y.low, point.y.high)]
    if chart.log_x:
        axes.set_xscale("log")
        _name_powers(axes.xaxis, across)
    if chart.log_y:
        axes.set_yscale("log")
        _name_powers(axes.yaxis, upwards)
    elif all(map(float.is_integer, upwards)):
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def _name_powers(axis: Axis, values: Sequence[float]) -> None:
    """Plain numbers where all are short; 2 and 5 unnamed between the powers of ten."""
    plain = _PLAIN[0] <= min(values) and max(values) <= _PLAIN[1]
    axis.set_major_formatter(FuncFormatter(_plain if plain else _power))
    axis.set_minor_locator(LogLocator(subs=(2, 5)))
    axis.set_minor_formatter(NullFormatter())


def _plain(value: float, _place: object) -> str:
    return f"{value:g}"


def _power(value: float, _place: object) -> str:
    return f"$10^{{{math.log10(value):.0f}}}$"


def _line(axes: Axes, line: Line, number: int, chart: Chart) -> None:
    """The median as a line; the band behind it."""
    xs = [point.x for point in line.points]
    colour = _COLOURS[number % len(_COLOURS)]
    axes.plot(
        xs,
        [point.y.median for point in line.points],
        color=colour,
        linestyle=_DASHES[number % len(_DASHES)] if chart.joined else "",
        marker=""
        if chart.continuous and chart.joined
        else _MARKERS[number % len(_MARKERS)],
        label=line.name,
        clip_on=False,
        zorder=3,
    )
    lows = [point.y.low for point in line.points]
    highs = [point.y.high for point in line.points]
    if len(xs) == 1 or not chart.joined:
        axes.vlines(xs, lows, highs, color=colour, alpha=0.5, linewidth=3)
    else:
        axes.fill_between(xs, lows, highs, color=colour, alpha=0.18, linewidth=0)


def _slot(number: int, lines: int) -> float:
    """How far right of its place a line stands, among so many."""
    return _SLOT * ((number + 0.5) / lines - 0.5)


def _marks(axes: Axes, line: Line, number: int, aside: float) -> None:
    """Medians and bands of places between which there is nothing."""
    colour = _COLOURS[number % len(_COLOURS)]
    axes.errorbar(
        [point.x + aside for point in line.points],
        [point.y.median for point in line.points],
        [
            [point.y.median - point.y.low for point in line.points],
            [point.y.high - point.y.median for point in line.points],
        ],
        color=colour,
        linestyle="",
        marker=_MARKERS[number % len(_MARKERS)],
        capsize=2.5,
        label=line.name,
    )


def _name(axes: Axes, chart: Chart) -> None:
    """Axes with units; below the title what the band is."""
    axes.set_xlabel(chart.x.text)
    axes.set_ylabel(chart.y.text)
    axes.set_title(f"{chart.title}\n{chart.band}", loc="left", fontsize=8)
    places = sorted({point.x for line in chart.lines for point in line.points})
    if chart.ticks:
        axes.set_xticks(range(len(chart.ticks)), chart.ticks)
        axes.set_xlim(-0.5, len(chart.ticks) - 0.5)
    elif not chart.continuous and not chart.log_x and len(places) <= _PLACES_NAMED:
        axes.set_xticks(places)
    if not chart.log_y:
        _bound(axes, chart)


def _bound(axes: Axes, chart: Chart) -> None:
    """Shares end at one; a line that is level has the room from zero below it."""
    spreads = [point.y for line in chart.lines for point in line.points]
    low, high = min(y.low for y in spreads), max(y.high for y in spreads)
    bottom, top = axes.get_ylim()
    if low == high and low >= 0:
        bottom, top = 0.0, 1.2 * high or 1.0
    if chart.y.unit == "share" and 0 <= low <= high <= 1:
        bottom, top = max(bottom, 0.0), min(top, 1.0)
    axes.set_ylim(bottom, top)


def _legend(figure: Figure, axes: Axes, chart: Chart) -> None:
    if _needless(chart.lines):
        return
    if len(chart.lines) <= _LEGEND_INSIDE:
        axes.legend(title=chart.legend or None)
    else:
        figure.legend(title=chart.legend or None, loc="outside right upper")


def _needless(lines: Sequence[Line]) -> bool:
    return len(lines) == 1 and not lines[0].name
