"""How well does a node estimate the size of the network from its own lookups?

The shipped estimator (`opnode.protocols.density`) is given the closest sets of so many
lookups of random targets, again and again, from a network whose size is known. Beside
it stands the published rule: least squares over i/d_i for each lookup, the mean of all.
"""

from typing import Annotated, ClassVar, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from opnode.protocols.density import Density
from simulations.backends.vector.keyed import Words
from simulations.backends.vector.population import Population
from simulations.model.arrays import Places
from simulations.run_context import Run
from simulations.scenario import Backend, Figures, Measured, Scenario, parameter

_K: Final = 20
_ID_BYTES: Final = 20
_WORD_BYTES: Final = 8
_CHUNK: Final = 4096
_SPACE: Final = 2.0**64

# Of the published simulation with 2 million nodes and 16 lookups.
_BAR_MEAN: Final = (1.05, 1.075)
_BAR_SD: Final = 0.07
_BAR_LOOKUPS: Final = 16

Sizes = npt.NDArray[np.float64]


class SizeFigures(Figures, frozen=True, kw_only=True):
    """Means are of nodes, deviations are shares of the mean, as in the published ones.

    Attributes:
        mean_size: of the shipped estimates; ``mean_size_se`` is its standard error.
        sd_share: their standard deviation.
        mean_published, sd_published_share: of the published rule on the same sets.
        mean_corrected: of the shipped estimate without the bias that theory gives it.
        bias_expected: by how much the mean should exceed the truth.
    """

    mean_size: float
    mean_size_se: float
    sd_share: float
    mean_published: float
    sd_published_share: float
    mean_corrected: float
    bias_expected: float


class _Estimates(NamedTuple):
    shipped: Sizes
    published: Sizes


class SizeScenario(Scenario[SizeFigures], frozen=True, kw_only=True):
    """Estimates of the size of one network by many nodes, each from its own lookups."""

    name: ClassVar[str] = "size"
    question: ClassVar[str] = (
        "How well does a node estimate the size of the network from its lookups?"
    )
    expected: ClassVar[str] = (
        "From 16 lookups: 6 % too high on average, as the mean of 1/x exceeds one over "
        "the mean of x, with a standard deviation of 6 to 7 %."
    )
    backends: ClassVar[tuple[Backend, ...]] = (Backend.VECTOR,)

    backend: Backend = Backend.VECTOR
    nodes: Annotated[
        int,
        parameter("Nodes", low=_K, high=100_000_000, drawn="uniform ids of 64 bits"),
    ] = 2_000_000
    lookups: Annotated[
        int,
        parameter(
            "Lookups that an estimate comes from", low=1, high=32, drawn="random keys"
        ),
    ] = 16
    estimates: Annotated[
        int, parameter("Nodes that estimate the size", low=2, high=100_000)
    ] = 4000

    def perform(self, run: Run) -> Measured[SizeFigures]:
        """See `Scenario.perform`."""
        population = Population.drawn(run.generator, self.nodes)
        parts = []
        each = max(1, _CHUNK // self.lookups)
        for begin in range(0, self.estimates, each):
            count = min(each, self.estimates - begin)
            parts.append(self._estimates(population, count, run.generator))
            run.progress(begin + count, self.estimates, "estimates")
        sizes = _Estimates(*(np.concatenate(p) for p in zip(*parts, strict=True)))
        for array in sizes:
            run.fold(array.data)
        for shipped, published in zip(*sizes, strict=True):
            run.row("estimates", shipped=float(shipped), published=float(published))
        return Measured(self._figures(sizes), self.estimates * self.lookups, 0.0)

    def _estimates(
        self, population: Population, count: int, generator: np.random.Generator
    ) -> _Estimates:
        keys = generator.integers(0, 2**64, count * self.lookups, dtype=np.uint64)
        nearest = population.nearest(keys, _K)
        samples = published_sizes(population.ids[nearest] ^ keys)
        shipped = [
            _shipped_size(population, keys[rows], nearest[:, rows])
            for rows in np.arange(len(keys)).reshape(count, self.lookups)
        ]
        published: Sizes = samples.reshape(count, self.lookups).mean(axis=1)
        return _Estimates(np.array(shipped), published)

    def _figures(self, sizes: _Estimates) -> SizeFigures:
        mean, sd = float(sizes.shipped.mean()), float(sizes.shipped.std())
        published = float(sizes.published.mean())
        low, high = (self.nodes * bound for bound in _BAR_MEAN)
        # Of fewer lookups an estimate is as much worse as the root of their number.
        sd_bar = _BAR_SD * max(1.0, _BAR_LOOKUPS / self.lookups) ** 0.5
        bias = expected_bias(_K)
        return SizeFigures(
            met=low <= mean <= high and sd / mean <= sd_bar,
            mean_size=mean,
            mean_size_se=sd / self.estimates**0.5,
            sd_share=sd / mean,
            mean_published=published,
            sd_published_share=float(sizes.published.std()) / published,
            mean_corrected=mean / (1.0 + bias),
            bias_expected=bias,
        )


def published_sizes(distances: Words) -> Sizes:
    """The size that each closest set speaks for, by least squares over i/d_i.

    Args:
        distances: from the key, nearest first; one row for each rank.
    """
    ranks = np.arange(1, len(distances) + 1, dtype=np.float64)[:, None]
    away = distances.astype(np.float64) / _SPACE
    sizes: Sizes = (ranks * ranks).sum() / (ranks * away).sum(axis=0)
    return sizes


def expected_bias(k: int) -> float:
    """By how much the mean of samples exceeds the size, to the second order.

    A sample is the sum of squares over x, the sum of i d_i. Gaps between distances are
    exponential, and the mean of 1/x exceeds one over the mean of x by its variance.
    """
    ranks = np.arange(1, k + 1, dtype=np.float64)
    # The gap before rank j is part of every later distance.
    weights = ranks[::-1].cumsum()[::-1]
    return float((weights**2).sum() / (ranks**2).sum() ** 2)


def _shipped_size(population: Population, keys: Words, nearest: Places) -> float:
    """What the node's own code makes of these lookups."""
    density = Density()
    for column, key in enumerate(keys):
        ids = map(_wide, population.ids[nearest[:, column]])
        density.add(_wide(key), ids)
    assert density.size is not None
    return density.size


def _wide(word: np.uint64) -> bytes:
    """An id of 20 bytes whose first 8 are these; the rest decides nothing."""
    return int(word).to_bytes(_WORD_BYTES, "big").ljust(_ID_BYTES, b"\0")
