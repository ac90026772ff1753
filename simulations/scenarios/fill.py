"""How full are buckets, and how many nodes know all who are nearest to them?

Every node knows of every other, or has heard of each with some chance, and keeps k of
those that a bucket could hold. Without churn: what is missing here is missing by the
room of the buckets alone, or by what nodes never heard of.
"""

import math
from typing import Annotated, ClassVar, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from simulations.backends.vector.population import Population
from simulations.backends.vector.tables import NOBODY, Tables
from simulations.model.arrays import Places
from simulations.run_context import Run
from simulations.scenario import Backend, Figures, Measured, Scenario, parameter

_CHUNK: Final = 4096
_TOLERANCE: Final = 0.02
_MEASURED: Final = (15_371, 20)
"""Reachable servers of IPFS in April 2022, and its k. In a network of another size a
bucket may hold nearly k on average: its mean then is well below, by those that are
full."""
_FULL_MEAN: Final = 19.9
_FEWEST: Final = 0.9
"""Buckets that hold fewer on average are left out of the bar: chance rules there."""
_MANY_MISSING: Final = 3
_MOST_MISSING: Final = 16

Shares = npt.NDArray[np.float64]


class FillFigures(Figures, frozen=True, kw_only=True):
    """Means over all nodes.

    Attributes:
        full_mean: members of buckets that more than k nodes fit into on average.
        full_share: those of them that have no room left.
        worst_unfilled_error: of the means of the other buckets, against the share of
            the nodes that fit and were heard of; of those with 0.9 members or more.
        worst_exact_error: of all means, against the law that knows the room.
        know_all_share: nodes that know the k nearest to themselves.
        miss_3_share: nodes that miss three or more; ``miss_16_share`` 16 or more.
    """

    full_mean: float
    full_share: float
    worst_unfilled_error: float
    worst_exact_error: float
    know_all_share: float
    miss_3_share: float
    miss_16_share: float


class _Counts(NamedTuple):
    """Of all nodes: members by bucket, nodes whose bucket is full, and what is missing.

    Attributes:
        missing: nodes by how many of their k nearest they do not know.
    """

    members: Places
    full: Places
    missing: Places


class FillScenario(Scenario[FillFigures], frozen=True, kw_only=True):
    """Buckets of all nodes of some networks of the same size."""

    name: ClassVar[str] = "fill"
    question: ClassVar[str] = (
        "How full are buckets, and who knows all of its nearest nodes?"
    )
    expected: ClassVar[str] = (
        "Bucket i holds N/2^(i+1) nodes, at most k; nearly all nodes know the k "
        "nearest, as their buckets have room for all of those."
    )
    backends: ClassVar[tuple[Backend, ...]] = (Backend.VECTOR,)

    backend: Backend = Backend.VECTOR
    nodes: Annotated[
        int,
        parameter("Nodes", low=100, high=10_000_000, drawn="uniform ids of 64 bits"),
    ] = 15_371
    k: Annotated[int, parameter("Contacts in a bucket", low=1, high=256)] = 20
    heard: Annotated[
        float,
        parameter(
            "Chance that a node has ever heard of another",
            unit="share",
            low=0.5,
            high=1,
            drawn="independent for each pair, in each direction",
        ),
    ] = 1.0
    networks: Annotated[
        int, parameter("Networks that means are taken over", low=1, high=10_000)
    ] = 20

    def perform(self, run: Run) -> Measured[FillFigures]:
        """See `Scenario.perform`."""
        depth = math.ceil(math.log2(self.nodes)) + 4
        total = _Counts(
            np.zeros(depth, dtype=np.int64),
            np.zeros(depth, dtype=np.int64),
            np.zeros(self.k + 1, dtype=np.int64),
        )
        for network in range(self.networks):
            self._count(run.generator, total)
            run.progress(network + 1, self.networks, "networks")
        for array in total:
            run.fold(array.data)
        means = total.members / (self.nodes * self.networks)
        exact = exact_means(self.nodes, self.k, depth, self.heard)
        for bucket, mean in enumerate(means):
            run.row(
                "buckets",
                bucket=bucket,
                mean=float(mean),
                share_of_nodes=self.heard * self.nodes / 2.0 ** (bucket + 1),
                exact=float(exact[bucket]),
                full_share=float(total.full[bucket]) / (self.nodes * self.networks),
            )
        figures = self._figures(total, means, exact)
        return Measured(figures, int(total.members.sum()), 0.0)

    def _count(self, generator: np.random.Generator, total: _Counts) -> None:
        """Add all nodes of one network."""
        population = Population.drawn(generator, self.nodes)
        key = int(generator.integers(0, 2**64, dtype=np.uint64))
        tables = Tables(population, self.k, key, heard=self.heard)
        for begin in range(0, self.nodes, _CHUNK):
            places = np.arange(begin, min(self.nodes, begin + _CHUNK))
            for bucket in range(len(total.members)):
                rows = np.full(len(places), bucket)
                sizes = (tables.bucket(places, rows) != NOBODY).sum(axis=0)
                total.members[bucket] += sizes.sum()
                total.full[bucket] += (sizes == self.k).sum()
            missing = _missing(tables, places)
            total.missing[:] += np.bincount(missing, minlength=self.k + 1)

    def _figures(self, total: _Counts, means: Shares, exact: Shares) -> FillFigures:
        counted = self.nodes * self.networks
        law = self.heard * self.nodes / 2.0 ** np.arange(1, len(means) + 1)
        filled, held = law >= self.k, law >= _FEWEST
        unfilled_error = np.abs(means / law - 1.0)[held & ~filled].max(initial=0.0)
        # Below 2 k nodes no bucket is full on average.
        full_mean = float(means[filled].mean()) if filled.any() else 0.0
        full_share = float(total.full[filled].mean()) / counted if filled.any() else 0.0
        missing = total.missing / counted
        exact_error = np.abs(means / exact - 1.0)[held].max()
        met = exact_error <= _TOLERANCE
        if (self.nodes, self.k) == _MEASURED:
            met = met and unfilled_error <= _TOLERANCE
            met = met and full_mean >= _FULL_MEAN
        return FillFigures(
            met=bool(met),
            full_mean=full_mean,
            full_share=full_share,
            worst_unfilled_error=float(unfilled_error),
            worst_exact_error=float(exact_error),
            know_all_share=float(missing[0]),
            miss_3_share=float(missing[_MANY_MISSING:].sum()),
            miss_16_share=float(missing[_MOST_MISSING:].sum()),
        )


def exact_means(nodes: int, k: int, depth: int, heard: float = 1.0) -> Shares:
    """The mean of each bucket: a binomial number fits, and k of them have room."""
    means = []
    for bucket in range(depth):
        fits = heard * 2.0 ** -(bucket + 1)
        short = math.fsum(
            (k - count) * _binomial(nodes - 1, fits, count) for count in range(k)
        )
        means.append(k - short)
    return np.array(means)


def _binomial(tries: int, chance: float, count: int) -> float:
    """The chance of exactly so many."""
    if count > tries:
        return 0.0
    ways = math.lgamma(tries + 1) - math.lgamma(count + 1)
    ways -= math.lgamma(tries - count + 1)
    log = ways + count * math.log(chance) + (tries - count) * math.log1p(-chance)
    return math.exp(log)


def _missing(tables: Tables, places: Places) -> Places:
    """How many of the k nearest to itself each node does not know."""
    population = tables.population
    keys = population.ids[places]
    # The nearest of all is the node itself.
    nearest = population.nearest(keys, tables.k + 1)[1:]
    known = tables.answers(places, keys)
    found = (nearest[:, None, :] == known[None, :, :]).any(axis=1)
    missing: Places = tables.k - found.sum(axis=0)
    return missing
