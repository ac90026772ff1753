"""Do disjoint paths get past liars who answer only with liars?

Liars are spread evenly over the ids. A path that asks one of them is lost. Two things
can be meant by the paths of a lookup then, and both are measured. Either they are laid
as if everybody answered, and judged afterwards by who stands on them: so does the
published table. Or a path that is lost goes astray among liars, which leaves honest
nodes to the others that it would have taken from them.
"""

import math
from collections.abc import Iterator
from typing import Annotated, ClassVar, Final, NamedTuple

import numpy as np

from opnode.core.errors import ConfigError
from simulations.backends.vector.disjoint import (
    DisjointLookups,
    Gang,
    Lie,
    Paths,
)
from simulations.backends.vector.population import Population
from simulations.backends.vector.tables import Draw, Tables
from simulations.model.arrays import Mask, Places
from simulations.run_context import Run
from simulations.scenario import Backend, Figures, Measured, Scenario, parameter

TABLE: Final = {
    (10**4, 16): {
        0.05: (0.871, 0.983, 1.000, 1.000),
        0.1: (0.754, 0.937, 0.996, 1.000),
        0.2: (0.553, 0.795, 0.954, 0.997),
        0.3: (0.391, 0.622, 0.848, 0.972),
        0.5: (0.169, 0.303, 0.501, 0.728),
    },
    (10**5, 20): {
        0.05: (0.851, 0.977, 0.999, 1.000),
        0.1: (0.719, 0.919, 0.993, 1.000),
        0.2: (0.499, 0.744, 0.930, 0.994),
        0.3: (0.332, 0.548, 0.787, 0.948),
        0.5: (0.123, 0.227, 0.394, 0.615),
    },
}
"""Success by nodes and k, by share of liars, for 1, 2, 4 and 8 paths."""

TABLE_PATHS: Final = (1, 2, 4, 8)
TOLERANCE: Final = 0.02

_CHUNK: Final = 2048
"""Lookups at once: eight paths of them are told some megabytes of contacts."""


class DisjointFigures(Figures, frozen=True, kw_only=True):
    """Shares are of lookups.

    Attributes:
        success_rate: at least one path, laid as if everybody answered, has no liar;
            ``success_rate_se`` is its standard error.
        success_rate_astray: at least one path arrives where lost paths go astray.
        formula_rate: the closed form, with the lengths of single paths as measured.
        table_rate: the published value, where there is one.
        mean_hops: of a path, laid as if everybody answered.
        mean_hops_single: where it is the only one.
        arrived_rate: of all laid paths, liars or not.
    """

    success_rate: float
    success_rate_se: float
    success_rate_astray: float
    success_rate_astray_se: float
    formula_rate: float
    table_rate: float | None
    mean_hops: float
    mean_hops_single: float
    arrived_rate: float


class _Sample(NamedTuple):
    """What was measured; one element for each lookup, or for each path of each."""

    laid: Mask
    astray: Mask
    lengths: Places
    arrived: Mask
    single: Places


class DisjointScenario(Scenario[DisjointFigures], frozen=True, kw_only=True):
    """Liars who know each other, and lookups over disjoint paths."""

    name: ClassVar[str] = "disjoint"
    question: ClassVar[str] = (
        "How many disjoint paths does a lookup need among liars who answer only with "
        "liars?"
    )
    expected: ClassVar[str] = (
        "Eight: a path of h hops is free of a share m of liars with (1-m)^h, and one "
        "of d is enough, which makes 99.7 % among 10^4 nodes with 20 % liars."
    )
    backends: ClassVar[tuple[Backend, ...]] = (Backend.VECTOR,)

    backend: Backend = Backend.VECTOR
    nodes: Annotated[
        int,
        parameter("Nodes", low=100, high=100_000_000, drawn="uniform ids of 64 bits"),
    ] = 10_000
    k: Annotated[
        int, parameter("Contacts in a bucket, and of a reply", low=1, high=256)
    ] = 16
    paths: Annotated[int, parameter("Disjoint paths of a lookup", low=1, high=64)] = 8
    liars: Annotated[
        float,
        parameter(
            "Nodes that lie", unit="share", low=0, high=0.95, drawn="uniform over nodes"
        ),
    ] = 0.2
    lie: Annotated[
        Lie, parameter("Which liars a liar names, where lost paths go astray")
    ] = Lie.ANY
    lookups: Annotated[
        int, parameter("Lookups by honest nodes", low=1, high=10_000_000)
    ] = 20_000

    def check(self) -> None:
        """Each path needs a contact of the asker to begin with."""
        if self.paths > self.k:
            raise ConfigError("--paths", str(self.paths), f"at most --k, here {self.k}")

    def perform(self, run: Run) -> Measured[DisjointFigures]:
        """See `Scenario.perform`."""
        population = Population.drawn(run.generator, self.nodes)
        sample = _joined(list(self._chunks(population, run)))
        for array in sample:
            run.fold(np.ascontiguousarray(array).data)
        for hops, times in enumerate(np.bincount(sample.lengths.ravel())):
            run.row("lengths", hops=hops, paths=int(times))
        asked = int(sample.lengths.sum() + sample.single.sum())
        return Measured(self._figures(sample), asked, 0.0)

    def _chunks(self, population: Population, run: Run) -> Iterator[_Sample]:
        generator = run.generator
        key = int(generator.integers(0, 2**64, dtype=np.uint64))
        tables = Tables(population, self.k, key, Draw.INDEPENDENT)
        lying = generator.permutation(self.nodes)[: round(self.liars * self.nodes)]
        is_liar = np.zeros(self.nodes, dtype=bool)
        is_liar[lying] = True
        gang = Gang(population, lying, self.lie) if lying.size else None
        honest = np.flatnonzero(~is_liar)
        for begin in range(0, self.lookups, _CHUNK):
            count = min(_CHUNK, self.lookups - begin)
            askers = honest[generator.integers(0, len(honest), count)]
            keys = generator.integers(0, 2**64, count, dtype=np.uint64)
            single, laid, astray = (
                _walked(lookups.run(askers, keys, generator))
                for lookups in (
                    DisjointLookups(tables, 1),
                    DisjointLookups(tables, self.paths),
                    DisjointLookups(tables, self.paths, gang),
                )
            )
            yield _Sample(
                _any_path(laid.clean(is_liar)),
                _any_path(astray.clean(is_liar)),
                laid.lengths(),
                laid.arrived,
                single.lengths()[0],
            )
            run.progress(begin + count, self.lookups, "lookups")

    def _figures(self, sample: _Sample) -> DisjointFigures:
        laid, astray = float(sample.laid.mean()), float(sample.astray.mean())
        formula = closed_form(sample.single, self.liars, self.paths)
        published = self._published()
        bar = formula if published is None else published
        return DisjointFigures(
            met=abs(laid - bar) <= TOLERANCE,
            success_rate=laid,
            success_rate_se=_standard_error(laid, self.lookups),
            success_rate_astray=astray,
            success_rate_astray_se=_standard_error(astray, self.lookups),
            formula_rate=formula,
            table_rate=published,
            mean_hops=float(sample.lengths.mean()),
            mean_hops_single=float(sample.single.mean()),
            arrived_rate=float(sample.arrived.mean()),
        )

    def _published(self) -> float | None:
        row = TABLE.get((self.nodes, self.k), {}).get(self.liars)
        if row is None or self.paths not in TABLE_PATHS:
            return None
        return row[TABLE_PATHS.index(self.paths)]


def closed_form(hops: Places, liars: float, paths: int) -> float:
    """The chance that one of ``paths`` equally long paths is free of liars.

    Args:
        hops: of single paths, as many as were measured.
        liars: their share.
        paths: how many disjoint ones.
    """
    free = (1.0 - liars) ** hops
    return float((1.0 - (1.0 - free) ** paths).mean())


def _walked(paths: Paths) -> Paths:
    assert paths.are_disjoint(), "a node was asked by two paths"
    return paths


def _any_path(flags: Mask) -> Mask:
    """Of flags of shape (paths, lookups): whether one path of each lookup has it."""
    any_of_them: Mask = np.logical_or.reduce(flags, axis=0)
    return any_of_them


def _joined(parts: list[_Sample]) -> _Sample:
    columns = zip(*parts, strict=True)
    return _Sample(*(np.concatenate(column, axis=-1) for column in columns))


def _standard_error(rate: float, count: int) -> float:
    return math.sqrt(rate * (1.0 - rate) / count)
