"""Is a crowd of ids next to a key noticed, and do honest nodes stay in its region?

The shipped rules (`opnode.protocols.density`) as arithmetic on arrays, so that a share
of one in a thousand can be told: the nearest honest ids around any point lie like
points of a Poisson process, attackers lie nearer than anybody honest would, and
everybody's idea of the size is of as many closest sets as the node has looked up. A
record goes to all of the region that its owner believes in, a read goes through the
region that the reader believes in; beside it stands the rule that most networks have,
the k nearest.

Simplified: lookups find everybody (`sybil` shows that they do), and attackers answer
every question but never give what they took.
"""

import math
from typing import Annotated, ClassVar, Final

import numpy as np
import numpy.typing as npt

from opnode.protocols.density import DensityConfig
from simulations.model.arrays import Floats
from simulations.run_context import Run
from simulations.scenario import Backend, Figures, Measured, Scenario, parameter

_HITS: Final = 0.99
_FALSE_ALARMS: Final = 0.01
_SUCCESS: Final = 0.99
_AT_ONCE: Final = 2048
"""Trials of one array: 32 samples of 20 distances each, 10 MB."""
_SEEN: Final = 4
"""Honest nodes that are drawn around a key: so many times k."""
_MARGIN_BITS: Final = 2
"""By which attackers are nearer than the nearest honest node is likely to be."""


class CrowdFigures(Figures, frozen=True, kw_only=True):
    """Shares of the trials.

    Attributes:
        hits: lookups at the attacked key whose closest set raised the alarm.
        false_alarms: ... at a key that nobody attacks.
        region_success: reads that asked at least one honest holder, by the regions.
        region_holders_mean: honest holders that a read asked, by the regions.
        nearest_success: the same where put and read go to the k nearest alone.
        size_error_mean, size_error_sd: of the estimates, relative to the size.
    """

    hits: float
    false_alarms: float
    region_success: float
    region_holders_mean: float
    nearest_success: float
    size_error_mean: float
    size_error_sd: float


class CrowdScenario(Scenario[CrowdFigures], frozen=True, kw_only=True):
    """Arithmetic of the density around a key."""

    name: ClassVar[str] = "crowd"
    question: ClassVar[str] = (
        "Is a crowd of ids next to a key noticed, and do honest nodes stay in its"
        " region?"
    )
    expected: ClassVar[str] = (
        "Twenty ids are noticed always, by accident one lookup in a thousand is; a"
        " region of twenty has no honest member once in 10^8."
    )
    backends: ClassVar[tuple[Backend, ...]] = (Backend.VECTOR,)

    backend: Backend = Backend.VECTOR
    nodes: Annotated[int, parameter("Honest nodes", low=100, high=1 << 40)] = 100_000
    sybils: Annotated[int, parameter("Ids next to the key", low=0, high=1000)] = 20
    samples: Annotated[
        int, parameter("Lookups that an estimate is made of", low=4, high=32)
    ] = 8
    trials: Annotated[int, parameter("Attacked keys", low=1, high=10_000_000)] = 20_000

    def perform(self, run: Run) -> Measured[CrowdFigures]:
        """Draw, judge and count, some trials at a time."""
        total = _Count()
        for first in range(0, self.trials, _AT_ONCE):
            count = min(_AT_ONCE, self.trials - first)
            total.add(self._try(run, count))
            run.progress(first + count, self.trials, "trials")
        trials = self.trials
        hits, false_alarms = total.hits / trials, total.false_alarms / trials
        success = total.region_found / trials
        mean = total.error / trials
        figures = CrowdFigures(
            met=success >= _SUCCESS
            and false_alarms <= _FALSE_ALARMS
            and (self.sybils < DensityConfig().k or hits >= _HITS),
            hits=hits,
            false_alarms=false_alarms,
            region_success=success,
            region_holders_mean=total.region_holders / trials,
            nearest_success=total.nearest_found / trials,
            size_error_mean=mean,
            size_error_sd=math.sqrt(max(0.0, total.error_squared / trials - mean**2)),
        )
        return Measured(figures, trials, 0.0)

    def _try(self, run: Run, count: int) -> "_Count":
        draw, k = run.generator, DensityConfig().k
        owners = estimates(draw, self.nodes, self.samples, count)
        readers = estimates(draw, self.nodes, self.samples, count)
        near = np.cumsum(draw.exponential(1.0, (count, _SEEN * k)), axis=1) / self.nodes
        depth = self.nodes.bit_length() + _MARGIN_BITS
        ground = draw.random((count, self.sybils)) * 2.0**-depth
        everybody = np.sort(np.concatenate((near, ground), axis=1), axis=1)[:, :k]
        quiet = np.cumsum(draw.exponential(1.0, (count, k)), axis=1) / self.nodes
        held = (near < _radius(owners, k)[:, None]).sum(axis=1)
        read = (near < _radius(readers, k)[:, None]).sum(axis=1)
        reached = np.minimum(held, read)
        nearest = (near[:, :k] <= everybody[:, -1:]).sum(axis=1)
        error = owners / self.nodes - 1
        for array in (everybody, owners, readers, quiet):
            run.fold(array.tobytes())
        return _Count(
            hits=int(alarms(readers, everybody).sum()),
            false_alarms=int(alarms(readers, quiet).sum()),
            region_found=int((reached > 0).sum()),
            region_holders=int(reached.sum()),
            nearest_found=int((nearest > 0).sum()),
            error=float(error.sum()),
            error_squared=float((error**2).sum()),
        )


class _Count:
    """Sums over trials."""

    def __init__(self, **sums: float) -> None:
        self.hits = sums.get("hits", 0)
        self.false_alarms = sums.get("false_alarms", 0)
        self.region_found = sums.get("region_found", 0)
        self.region_holders = sums.get("region_holders", 0)
        self.nearest_found = sums.get("nearest_found", 0)
        self.error = sums.get("error", 0.0)
        self.error_squared = sums.get("error_squared", 0.0)

    def add(self, other: "_Count") -> None:
        """Take another's sums in."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


def estimates(
    draw: np.random.Generator, nodes: int, samples: int, count: int
) -> Floats:
    """What so many nodes take the size to be, without the correction of its bias.

    As `opnode.protocols.density` does: least squares over the k nearest of each sample,
    then the mean of those within a factor of two of the median of those within a factor
    of two of the lower quartile.
    """
    config = DensityConfig()
    rank = np.arange(1, config.k + 1)
    away = np.cumsum(draw.exponential(1.0, (count, samples, config.k)), axis=2) / nodes
    sizes = np.sort((rank**2).sum() / (away * rank).sum(axis=2), axis=1)
    kept = np.ones_like(sizes, dtype=bool)
    for share in (4 if samples >= config.quartile_samples else 2, 2):
        # The kept ones are neighbours in the order, so any quantile is at hand.
        first = kept.argmax(axis=1)
        middle = first + (kept.sum(axis=1) - 1) // share
        median = np.take_along_axis(sizes, middle[:, None], axis=1)
        kept = (sizes >= median / config.outlier) & (sizes <= median * config.outlier)
    means: Floats = np.where(kept, sizes, 0.0).sum(axis=1) / kept.sum(axis=1)
    return means


def alarms(sizes: Floats, away: Floats) -> npt.NDArray[np.bool_]:
    """Whether closest sets, by their sorted distances, look like crowds.

    Args:
        sizes: (n) estimates.
        away: (n, k) shares of the id space.
    """
    config = DensityConfig()
    expected = (sizes / (1 + _bias(config.k)))[:, None] * away
    found = np.arange(1, away.shape[1] + 1)
    # The chance of fewer than `found`, term by term.
    term = np.exp(-expected)
    fewer = np.zeros_like(expected)
    for number in range(away.shape[1]):
        fewer += np.where(number < found, term, 0.0)
        term = term * expected / (number + 1)
    is_crowd = (found >= config.alarm_crowd) & (found > expected)
    is_unlikely = 1 - fewer < config.alarm_chance
    noticed: npt.NDArray[np.bool_] = np.any(is_crowd & is_unlikely, axis=1)
    return noticed


def _radius(sizes: Floats, k: int) -> Floats:
    """The share of the id space in which k nodes are expected."""
    radius: Floats = np.minimum(1.0, k * (1 + _bias(k)) / sizes)
    return radius


def _bias(k: int) -> float:
    """How much the mean estimate exceeds the size (density.py derives it)."""
    weights = [(k * (k + 1) - j * (j - 1)) / 2 for j in range(1, k + 1)]
    squares = k * (k + 1) * (2 * k + 1) / 6
    return sum(weight * weight for weight in weights) / squares**2
