"""A chart as a plain value: what is drawn, before anything draws it.

Owns the values and whether an axis is logarithmic. Refuses to know colours and files.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from simulations.plot.spread import HIGH, LOW, Spread
from simulations.plot.words import Label

_DECADES: Final = 1.5
"""Values that span more than this are hard to read on a linear axis."""

_MARKED: Final = 20
"""Points of a line that are marked one by one."""


class Point(NamedTuple):
    """The spread of the runs at one place of the horizontal axis."""

    x: float
    y: Spread


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """Points from left to right, and what the legend calls them."""

    name: str
    points: tuple[Point, ...]


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """One figure. `ticks` names the places of an axis that has no numbers."""

    name: str
    """Of its file, without the ending."""
    title: str
    x: Label
    y: Label
    lines: tuple[Line, ...]
    """In the order of the legend."""
    legend: str = ""
    ticks: tuple[str, ...] = ()
    joined: bool = True
    """Whether there is something between two places, so that a line may join them."""

    @property
    def log_x(self) -> bool:
        """Whether the horizontal axis is logarithmic."""
        if self.ticks:
            return False
        return _wide([point.x for line in self.lines for point in line.points])

    @property
    def log_y(self) -> bool:
        """Whether the vertical axis is logarithmic."""
        spreads = [point.y for line in self.lines for point in line.points]
        return _wide([edge for y in spreads for edge in (y.low, y.median, y.high)])

    @property
    def continuous(self) -> bool:
        """Whether so many points follow each other that markers would hide them."""
        return max(len(line.points) for line in self.lines) > _MARKED

    @property
    def band(self) -> str:
        """What lines and bands are, in words."""
        counts = [point.y.n for line in self.lines for point in line.points]
        fewest, most = min(counts), max(counts)
        if most == 1:
            return "one run a point"
        runs = f"{most} runs" if fewest == most else f"{fewest} to {most} runs"
        return f"median and {LOW * 100:.0f}-{HIGH * 100:.0f} % band of {runs} a point"

    @property
    def caption(self) -> str:
        """What is shown, for whom a title is too short."""
        lines = f", for each {self.legend}" if self.legend else ""
        shown = f"{self.title}: {self.y.text} over {self.x.text}{lines}"
        return f"{shown}; {self.band}."


def _wide(values: Sequence[float]) -> bool:
    """Whether positive values span decades."""
    if not values or min(values) <= 0:
        return False
    return math.log10(max(values) / min(values)) >= _DECADES
