"""What a figure looks like: its percentiles, and the line or table that shows it.

Owns the JSON form and what is needed to compare two runs: commit, versions, load.
Refuses to know how anything is measured.
"""

import json
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from opnode.testing.provenance import commit, versions
from opnode.version import __version__

LARGE = 1000


class BenchmarkError(Exception):
    """The benchmark could not measure what it promises; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """Percentiles of one measured quantity; the unit is in the measure's name."""

    median: float
    p99: float
    min: float
    max: float
    mean: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One benchmark's result.

    Args:
        figure: the benchmark's name.
        measures: percentiles by name; each name ends in its unit.
        facts: single values that belong to the result, such as counts of failures.
    """

    figure: str
    measures: Mapping[str, Measure]
    facts: Mapping[str, int | float | str]


def measure(values: Sequence[float], *, scale: float = 1.0) -> Measure:
    """Percentiles of the values times ``scale``; p99 is the nearest rank.

    Raises:
        BenchmarkError: there are no values.
    """
    if not values:
        raise BenchmarkError("nothing was measured")
    ordered = sorted(value * scale for value in values)
    rank = max(0, math.ceil(0.99 * len(ordered)) - 1)
    return Measure(
        median=_rounded(statistics.median(ordered)),
        p99=_rounded(ordered[rank]),
        min=_rounded(ordered[0]),
        max=_rounded(ordered[-1]),
        mean=_rounded(statistics.fmean(ordered)),
        n=len(ordered),
    )


def json_line(report: Report) -> str:
    """The report as one line of JSON."""
    row: dict[str, object] = {
        "figure": report.figure,
        "commit": commit(),
        "versions": versions(),
        "load_1min": round(os.getloadavg()[0], 2),
        **report.facts,
        **{name: asdict(one) for name, one in report.measures.items()},
    }
    return json.dumps(row)


def print_table(report: Report, console: Console) -> None:
    """The report for people."""
    table = Table(title=f"{report.figure} · opnode {__version__} · {commit()}")
    columns = ("median", "p99", "min", "max", "mean", "n")
    table.add_column("measure")
    for column in columns:
        table.add_column(column, justify="right")
    for name, one in report.measures.items():
        cells = asdict(one)
        table.add_row(name, *(f"{cells[column]:,}" for column in columns))
    console.print(table)
    for name, value in report.facts.items():
        console.print(f"{name}: {value}")


def leaves(error: BaseException) -> list[BaseException]:
    """The errors in a tree of groups; a group per nursery says nothing to a reader."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for part in error.exceptions for leaf in leaves(part)]


def _rounded(value: float) -> float:
    """Four significant digits, at least: more decimals would be noise."""
    return round(value, 3 if abs(value) < LARGE else 1)
