"""The report of a directory: what was asked, what was found, and how to repeat it.

Owns what is told and in which order. Refuses to know how results are stored.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from simulations.parameters import Parameter
from simulations.plot import page
from simulations.plot.chapters import Book, Chapter, Group
from simulations.plot.chart import Chart
from simulations.plot.draw import Format, drawn
from simulations.plot.page import Markup, element, table, text
from simulations.plot.rows import SEED
from simulations.plot.spread import HIGH, LOW, Spread
from simulations.plot.words import label, number
from simulations.results import Result
from simulations.run_context import Cell

MOST_RUNS: Final = 2000
"""Of a scenario that are listed one by one; all are in `results.jsonl`."""
_DIGITS: Final = 12
"""Of a digest."""
_VALUES: Final = 12
"""Of a parameter, before they are counted instead."""


def report(title: str, book: Book) -> str:
    """The whole page, charts included."""
    return page.page(
        f"{title}: simulations",
        element("h1", text(title)),
        *_head(book),
        *(part for chapter in book.chapters for part in _chapter(chapter)),
    )


def _results(chapter: Chapter) -> list[Result]:
    return [*(row.result for row in chapter.rows), *chapter.unfinished]


def _head(book: Book) -> Iterator[Markup]:
    """How many runs of what came to which end, and where they come from."""
    yield table(
        ["scenario", "runs", "complete", "interrupted", "failed", "missed the bar"],
        [
            _counts(
                page.link(chapter.scenario),
                Counter(result.status.value for result in _results(chapter)),
                sum(group.n - group.met for group in chapter.groups),
            )
            for chapter in book.chapters
        ],
    )
    results = [result for chapter in book.chapters for result in _results(chapter)]
    commits = Counter(result.commit or "none" for result in results)
    said = ", ".join(f"{one} ({n} runs)" for one, n in commits.most_common())
    yield element("p", text(f"Commits: {said}"))
    if any("+changes" in commit for commit in commits):
        changed = "Some runs are of files that differ from their commit."
        yield element("p", text(changed), kind="bad")
    yield _versions(results)
    for note in book.notes:
        yield element("p", text(f"Left out: {note}"), kind="bad")


def _counts(name: Markup, statuses: Counter[str], missed: int) -> list[Markup]:
    bad = [statuses["interrupted"], statuses["failed"], missed]
    marked = [
        element("span", text(count), kind="bad") if count else text(count)
        for count in bad
    ]
    total = text(statuses.total())
    return [name, total, text(statuses["complete"]), *marked]


def _versions(results: Sequence[Result]) -> Markup:
    """Versions of everything; several where runs differ."""
    names = dict.fromkeys(name for result in results for name in result.versions)
    rows = []
    for name in names:
        found = Counter(result.versions.get(name, "none") for result in results)
        rows.append([text(name), text(", ".join(sorted(found)))])
    summary = element("summary", text("Versions"))
    return element("details", summary, table(["of", "version"], rows))


def _chapter(chapter: Chapter) -> Iterator[Markup]:
    yield page.target(chapter.scenario)
    if chapter.question:
        yield element("p", text(chapter.question))
        yield element("p", text(f"Expected: {chapter.expected}"), kind="quiet")
    if chapter.unfinished:
        yield element("h3", text("Runs without a result"))
        yield _unfinished(chapter.unfinished)
    yield element("h3", text("Parameters"))
    yield _parameters(chapter)
    if chapter.groups:
        yield element("h3", text("Figures"))
        yield element(
            "p",
            text(
                f"The median of n runs that differ in their seed, with the "
                f"{LOW * 100:.0f} % and {HIGH * 100:.0f} % quantiles where n > 1."
            ),
            kind="quiet",
        )
        yield _figures(chapter)
    yield from map(_chart, chapter.charts)
    yield _runs(chapter)


def _chart(chart: Chart) -> Markup:
    return page.image(drawn(chart, Format.SVG), chart.caption)


def _unfinished(results: Sequence[Result]) -> Markup:
    rows = [
        [
            element("span", text(result.status.value), kind="bad"),
            text(result.error),
            element("code", text(result.command)),
        ]
        for result in results[:MOST_RUNS]
    ]
    return table(["status", "why", "to repeat it"], rows)


def _parameters(chapter: Chapter) -> Markup:
    """Each parameter with the values that runs had, and what it means."""
    about = {one.name: one for one in chapter.parameters}
    values: dict[str, dict[Cell, None]] = {}
    for result in _results(chapter):
        for name, value in result.parameters.items():
            values.setdefault(name, {})[value] = None
    rows = [_parameter(name, about.get(name), list(values[name])) for name in values]
    return table(["parameter", "values", "unit", "meaning", "possible"], rows)


def _parameter(
    name: str, known: Parameter | None, values: Sequence[Cell]
) -> list[Markup]:
    shown = ", ".join(map(str, values[:_VALUES]))
    if len(values) > _VALUES:
        shown = f"{len(values)} values, first {shown}"
    meaning = (
        "" if known is None else "; ".join(filter(None, (known.about, known.drawn)))
    )
    return [
        element("code", text(name)),
        # Marked up, so that it stands at the left whatever it is.
        element("span", text(shown)),
        text("" if known is None else known.unit),
        text(meaning),
        # Few scenarios run on every backend there is.
        text("" if known is None or name == "backend" else known.expected),
    ]


def _figures(chapter: Chapter) -> Markup:
    names = list(dict.fromkeys(n for group in chapter.groups for n in group.figures))
    heads = [*chapter.varied, "n", "met", *(label(name).text for name in names)]
    return table(heads, [_group(group, names) for group in chapter.groups])


def _group(group: Group, names: Sequence[str]) -> list[Markup]:
    met = text(f"{group.met} of {group.n}")
    return [
        *(element("b", text(value)) for value in group.values),
        text(group.n),
        met if group.met == group.n else element("span", met, kind="bad"),
        *(_spread(group.figures.get(name)) for name in names),
    ]


def _spread(found: Spread | None) -> Markup:
    if found is None:
        return text("-")
    median = number(found.median)
    if found.n == 1:
        return text(median)
    return text(f"{median} [{number(found.low)}, {number(found.high)}]")


def _runs(chapter: Chapter) -> Markup:
    """Every run: what tells it apart, what it cost, and the command that repeats it."""
    results = [row.result for row in chapter.rows][:MOST_RUNS]
    several = [name for name in chapter.varied if name != "commit"]
    heads = [*several, SEED, "events", "virtual (s)", "CPU (s)", "memory (MB)"]
    rows = [
        [
            *(text(result.parameters.get(name, "")) for name in several),
            text(result.seed),
            text(number(result.events)),
            text(number(result.virtual_s)),
            text(number(result.cpu_s)),
            text(number(result.peak_rss_MB)),
            element("code", text(result.digest[:_DIGITS])),
            element("code", text(result.command)),
        ]
        for result in results
    ]
    more = len(chapter.rows) - len(results)
    said = f"Runs, and {more} more in results.jsonl" if more else "Runs"
    return element(
        "details",
        element("summary", text(said)),
        table([*heads, "digest", "to repeat it"], rows),
    )
