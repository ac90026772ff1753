"""What a directory of results says, scenario by scenario, ready to be shown.

Owns which runs, tables and charts a scenario gets. Refuses to know how they look.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from opnode.core.errors import ConfigError
from simulations.parameters import Parameter, parameters_of
from simulations.plot.chart import Chart
from simulations.plot.choice import (
    MOST_LINES,
    Axes,
    charts,
    choose,
    grouped,
    kinds_of,
    told,
    varied,
)
from simulations.plot.columns import Problem, Table, tables
from simulations.plot.rows import SEED, Row, latest, rows
from simulations.plot.series import Series, series_charts
from simulations.plot.spread import Spread, spread
from simulations.plot.words import Label, label
from simulations.registry import load
from simulations.results import Result, read_results

MOST_CHARTS: Final = 300
"""Of one directory; nobody looks at more, and each takes a third of a second."""


class Wanted(NamedTuple):
    """What somebody chose instead of the rule; None where nobody did."""

    x: str | None = None
    y: str | None = None
    by: str | None = None


class Group(NamedTuple):
    """Runs that differ in their seed only, and how their figures spread.

    Attributes:
        met: how many of them met their bar.
    """

    values: tuple[str, ...]
    n: int
    met: int
    figures: dict[str, Spread]


class Chapter(NamedTuple):
    """One scenario.

    Attributes:
        varied: parameters that differ between groups, one for each of their values.
        unfinished: runs that failed or were interrupted.
    """

    scenario: str
    question: str
    expected: str
    parameters: tuple[Parameter, ...]
    rows: list[Row]
    unfinished: list[Result]
    varied: tuple[str, ...]
    groups: list[Group]
    charts: list[Chart]


class Book(NamedTuple):
    """A whole directory; `notes` tells what is not in it, and why."""

    chapters: list[Chapter]
    notes: list[str]


def read_book(directory: Path, wanted: Wanted) -> Book:
    """Read a directory of results and choose what is drawn of it.

    Raises:
        ConfigError: There are no results, or nothing has a name that is wanted.
    """
    results, notes = read_results(directory)
    if not results:
        raise ConfigError("DIR", f"no results in {directory}", "runs that were kept")
    chapters = []
    for name in dict.fromkeys(result.scenario for result in results):
        own = [result for result in results if result.scenario == name]
        chapter, problems = _chapter(directory, name, latest(own), wanted)
        chapters.append(chapter)
        notes += problems
    _require_known(wanted, chapters)
    return _bounded(Book(chapters, notes))


def _chapter(
    directory: Path, name: str, results: Sequence[Result], wanted: Wanted
) -> tuple[Chapter, list[str]]:
    complete = rows(results)
    several = varied(complete)
    question, expected, parameters = _about(name)
    chapter = Chapter(
        scenario=name,
        question=question,
        expected=expected,
        parameters=parameters,
        rows=complete,
        unfinished=[r for r in results if r.status != "complete"],
        varied=several,
        groups=list(_groups(complete, several)),
        charts=[],
    )
    notes: list[str] = []
    if _knows(chapter, wanted) and len(complete) > 1:
        axes = choose(complete, wanted.x, wanted.by)
        chapter.charts.extend(_figures(chapter, axes, wanted.y, _describe(parameters)))
    if complete and wanted.y is None:
        chapter.charts.extend(_series(directory, chapter, notes))
    return chapter, notes


def _about(name: str) -> tuple[str, str, tuple[Parameter, ...]]:
    """What a scenario says of itself; nothing where it is not known any more."""
    try:
        kind = load(name)
    except ConfigError:
        return "", "", ()
    return kind.question, kind.expected, parameters_of(kind)


def _describe(parameters: Sequence[Parameter]) -> Callable[[str], Label]:
    units = {one.name: one.unit for one in parameters}

    def describe(name: str) -> Label:
        read = label(name)
        unit = units.get(name)
        return Label(" ".join(name.split("_")), unit) if unit else read

    return describe


def _groups(complete: Sequence[Row], several: Sequence[str]) -> Iterator[Group]:
    """Runs told apart by what varies, in the order of their values."""
    for key, own in grouped(complete, several):
        names = dict.fromkeys(name for row in own for name in row.figures)
        figures = {
            name: spread([row.figures[name] for row in own if name in row.figures])
            for name in names
        }
        met = sum((row.result.figures or {}).get("met") is True for row in own)
        shown = tuple(text.split("=", 1)[1] for text in told(several, key))
        yield Group(shown, len(own), met, figures)


def _figures(
    chapter: Chapter, axes: Axes, y: str | None, describe: Callable[[str], Label]
) -> Iterator[Chart]:
    names = dict.fromkeys(name for row in chapter.rows for name in row.figures)
    for name in names:
        if y is None or name == y:
            yield from charts(chapter.scenario, chapter.rows, name, axes, describe)


def _series(directory: Path, chapter: Chapter, notes: list[str]) -> Iterator[Chart]:
    names = dict.fromkeys(n for row in chapter.rows for n in row.result.series)
    by: list[str] = []
    apart = list(chapter.varied)
    while apart and kinds_of(chapter.rows, [*by, apart[0]]) <= MOST_LINES:
        by.append(apart.pop(0))
    axes = Axes("", tuple(by), tuple(apart))
    for name in names:
        found: list[Table] = []
        for table in tables(directory, chapter.rows, name):
            if isinstance(table, Problem):
                notes.append(f"{directory / table.place}: {table.reason}")
            else:
                found.append(table)
        yield from series_charts(Series(chapter.scenario, name, found), axes)


def _knows(chapter: Chapter, wanted: Wanted) -> bool:
    parameters = {name for row in chapter.rows for name in row.parameters} | {SEED}
    figures = {name for row in chapter.rows for name in row.figures}
    return (
        wanted.x in (None, *parameters)
        and wanted.by in (None, *parameters)
        and wanted.y in (None, *figures)
    )


def _require_known(wanted: Wanted, chapters: Sequence[Chapter]) -> None:
    """Whether what is wanted can be drawn of any scenario."""
    if any(_knows(chapter, wanted) for chapter in chapters):
        return
    every = [row for chapter in chapters for row in chapter.rows]
    parameters = {name for row in every for name in row.parameters} | {SEED}
    figures = {name for row in every for name in row.figures}
    for option, name, known in (
        ("--x", wanted.x, parameters),
        ("--by", wanted.by, parameters),
        ("--y", wanted.y, figures),
    ):
        if name is not None and name not in known:
            raise ConfigError(option, name, f"one of {', '.join(sorted(known))}")
    raise ConfigError("--x, --y, --by", "no scenario with all", "names of one scenario")


def _bounded(book: Book) -> Book:
    """Leave out the charts that nobody would look at."""
    left = MOST_CHARTS
    for chapter in book.chapters:
        if len(chapter.charts) > left:
            more = len(chapter.charts) - left
            book.notes.append(
                f"{chapter.scenario}: {more} more charts are left out; --y chooses one"
            )
            del chapter.charts[left:]
        left -= len(chapter.charts)
    return book
