"""Rows: what a run was told and what it found, flat enough to draw.

Owns the flattening, and which of several lines stands for a run. Refuses to know how
results are stored.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from simulations.results import Result, run_key
from simulations.run_context import Cell
from simulations.runs import Status

SEED: Final = "seed"
COMMIT: Final = "commit"


class Row(NamedTuple):
    """One complete run of a scenario.

    Attributes:
        parameters: what may differ between runs, without the seed; the commit too,
            where there are several.
        figures: its numbers, those inside of others as `outer.inner`.
    """

    parameters: Mapping[str, Cell]
    seed: int
    figures: Mapping[str, float]
    result: Result


def latest(results: Iterable[Result]) -> list[Result]:
    """One result for each run: the last complete one, or else the last."""
    kept: dict[str, Result] = {}
    for result in results:
        key = run_key(result)
        old = kept.get(key)
        if old is None or not _complete(old) or _complete(result):
            kept[key] = result
    return list(kept.values())


def rows(results: Sequence[Result]) -> list[Row]:
    """The complete runs of one scenario."""
    complete = list(filter(_complete, results))
    commits = {result.commit for result in complete}
    return [_row(result, several_commits=len(commits) > 1) for result in complete]


def _complete(result: Result) -> bool:
    return result.status is Status.COMPLETE and result.figures is not None


def _row(result: Result, *, several_commits: bool) -> Row:
    parameters = {n: value for n, value in result.parameters.items() if n != SEED}
    if several_commits:
        parameters[COMMIT] = result.commit or "none"
    return Row(parameters, result.seed, numbers(result.figures or {}), result)


def numbers(figures: Mapping[str, object], prefix: str = "") -> dict[str, float]:
    """The numbers among figures; those inside of others as `outer.inner`.

    Truths, texts and lists are no places on an axis and are left out.
    """
    found: dict[str, float] = {}
    for name, value in figures.items():
        if isinstance(value, Mapping):
            found |= numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[prefix + name] = float(value)
    return found
