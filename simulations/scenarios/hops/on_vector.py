"""Hops and rounds on arrays: ideal tables, up to 10^7 nodes and beyond.

Owns the sample and its figures. Refuses to know how a path goes on.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from simulations.backends.vector.greedy import hops_of
from simulations.backends.vector.population import Population
from simulations.backends.vector.rounds import IterativeLookups, Rounds
from simulations.backends.vector.tables import Draw, Tables
from simulations.model.arrays import Places
from simulations.run_context import Run
from simulations.scenario import Measured
from simulations.scenarios.hops.question import (
    HopsFigures,
    Question,
    bits_per_hop,
    expected_hops,
    meets_bars,
)

_CHUNK: Final = 4096
"""Lookups at once: their arrays stay within a few megabytes, so within the caches."""


class _Sample(NamedTuple):
    """All that was measured, one element for each path or lookup."""

    hops: Places
    distinct: Places
    rounds: Rounds


def measure(asked: Question, run: Run) -> Measured[HopsFigures]:
    """Draw a network, run greedy paths and lookups in it, and tell what they took."""
    population = Population.drawn(run.generator, asked.nodes)
    sample = _joined(list(_chunks(asked, population, run)))
    for array in (sample.hops, sample.distinct, *sample.rounds):
        run.fold(np.ascontiguousarray(array).data)
    _histogram(run, "hops", sample.hops)
    _histogram(run, "rounds", sample.rounds.rounds)
    steps = sample.hops.sum() + sample.distinct.sum() + sample.rounds.asked.sum()
    figures = _figures(asked, sample)
    return Measured(figures, int(steps), float(sample.rounds.took_s.max()))


def _chunks(asked: Question, population: Population, run: Run) -> Iterator[_Sample]:
    generator = run.generator
    # Two networks of the same ids; a key decides all tables of one.
    keys = [int(key) for key in generator.integers(0, 2**64, 2, dtype=np.uint64)]
    repeating = Tables(population, asked.k, keys[0], Draw.INDEPENDENT)
    tables = Tables(population, asked.k, keys[1], Draw.DISTINCT)
    lookups = IterativeLookups(tables, asked.alpha, asked.law, generator)
    for begin in range(0, asked.lookups, _CHUNK):
        count = min(_CHUNK, asked.lookups - begin)
        starts = generator.integers(0, asked.nodes, count)
        apart = generator.integers(1, asked.nodes, count)
        targets = (starts + apart) % asked.nodes
        wanted = generator.integers(0, 2**64, count, dtype=np.uint64)
        yield _Sample(
            hops_of(repeating, starts, targets),
            hops_of(tables, starts, targets),
            lookups.run(starts, wanted),
        )
        run.progress(begin + count, asked.lookups, "lookups")


def _joined(parts: list[_Sample]) -> _Sample:
    columns = zip(*(part.rounds for part in parts), strict=True)
    rounds = Rounds(*(np.concatenate(column) for column in columns))
    hops = np.concatenate([part.hops for part in parts])
    return _Sample(hops, np.concatenate([part.distinct for part in parts]), rounds)


def _figures(asked: Question, sample: _Sample) -> HopsFigures:
    hops, distinct, rounds = sample
    mean_hops, mean_rounds = float(hops.mean()), float(rounds.rounds.mean())
    p99_rounds = _quantile(rounds.rounds, 0.99)
    return HopsFigures(
        met=meets_bars(asked, mean_hops, (mean_rounds, p99_rounds)),
        mean_hops=mean_hops,
        mean_hops_se=_standard_error(hops),
        sd_hops=float(hops.std()),
        p99_hops=_quantile(hops, 0.99),
        hops_expected=expected_hops(asked),
        mean_hops_distinct=float(distinct.mean()),
        mean_hops_distinct_se=_standard_error(distinct),
        bits_per_hop=bits_per_hop(asked.k),
        mean_rounds=mean_rounds,
        mean_rounds_se=_standard_error(rounds.rounds),
        p99_rounds=p99_rounds,
        max_rounds=int(rounds.rounds.max()),
        rpcs_mean=float(rounds.asked.mean()),
        lookup_s_median=float(np.quantile(rounds.took_s, 0.5)),
        lookup_s_p99=float(np.quantile(rounds.took_s, 0.99)),
    )


def _quantile(counts: Places, share: float) -> int:
    """A count that was measured, not one between two of them."""
    return int(np.quantile(counts, share, method="inverted_cdf"))


def _standard_error(values: npt.NDArray[np.int64]) -> float:
    """Of the mean, by which another sample of the same size differs."""
    return float(values.std() / np.sqrt(len(values)))


def _histogram(run: Run, name: str, counts: Places) -> None:
    for value, times in enumerate(np.bincount(counts)):
        run.row(name, **{name: value, "lookups": int(times)})
