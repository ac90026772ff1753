"""How many nodes there are, and where there are suspiciously many.

Owns the estimate of the network's size from the closest sets of finished lookups, the
region that so many nodes share, and the alarm about a region that is too full. Refuses
to know contacts and how they were found.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

_ID_SPACE: Final = 2**160


@dataclass(frozen=True, slots=True, kw_only=True)
class DensityConfig:
    """Limits of the estimate.

    Attributes:
        k: the closest ids of a lookup that are a sample.
        window: samples kept, one for each target: 32 give a deviation of 5 %, and
            follow a network that grows within the hour.
        outlier: a sample so many times above or below the median is left out of the
            mean: four standard deviations of an honest one, and far less than 20 ids
            ground next to a key show.
        quartile_samples: with so many, outliers are told by the lower quartile, as
            most may be of attacked keys; of fewer a single low one must not decide.
        alarm_samples: below so many the estimate is too vague to accuse anybody.
        alarm_chance: an honest region is this full by chance; the alarm looks at every
            prefix of a closest set, which makes 1 false alarm in 1000 lookups of it.
        alarm_crowd: fewer ids than this are never called a crowd.
    """

    k: int = 20
    window: int = 32
    outlier: float = 2.0
    quartile_samples: int = 8
    alarm_samples: int = 4
    alarm_chance: float = 1e-4
    alarm_crowd: int = 4


class Crowd(NamedTuple):
    """A region that holds more nodes than chance explains.

    Attributes:
        found: ids within the region.
        expected: ids that a network of the estimated size has there.
        chance: how likely it is in an honest network.
    """

    found: int
    expected: float
    chance: float

    def __str__(self) -> str:
        return f"{self.found} nodes where {self.expected:.2g} are expected"


class Density:
    """The estimate of one node, from the lookups that it ran."""

    def __init__(self, config: DensityConfig | None = None) -> None:
        self._config = config or DensityConfig()
        # One for each target, oldest first: whoever makes us ask for one key again and
        # again makes us take one sample.
        self._samples: dict[bytes, float] = {}
        self._size: float | None = None

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def size(self) -> float | None:
        """The nodes that others could find, or None before the first lookup.

        The mean of the samples that are near their median. Like the published
        estimator (pubky/mainline) it is 6 % too high on average: see ``radius``.
        """
        return self._size

    def add(self, target: bytes, ids: Iterable[bytes]) -> None:
        """Take the closest set of a finished lookup.

        Args:
            target: 20 bytes, what was looked up.
            ids: 20 bytes each, the k nodes nearest to it, or more, or all there are.
        """
        config = self._config
        distances = _distances(target, ids)[: config.k]
        if not distances:
            return
        self._samples.pop(target, None)
        self._samples[target] = _sample(distances, config.k)
        if len(self._samples) > config.window:
            del self._samples[next(iter(self._samples))]
        self._size = self._mean()

    def radius(self, count: int) -> int | None:
        """The distance within which ``count`` nodes are expected around any id.

        The estimator's mean is corrected here, or the region would be 6 % too small.
        """
        if self._size is None:
            return None
        true_size = self._size / (1 + _bias(self._config.k))
        if true_size <= count:
            return _ID_SPACE - 1
        return int(_ID_SPACE * (count / true_size))

    def alarm(self, target: bytes, ids: Iterable[bytes]) -> Crowd | None:
        """Whether so many ids so near to the target are no accident.

        Args:
            target: 20 bytes.
            ids: 20 bytes each, every node found around it; the k closest suffice.

        Returns:
            The least likely of the nested regions around the target, when it is less
            likely than the limit; honest ids lie like points of a Poisson process.
        """
        config = self._config
        if self._size is None or len(self._samples) < config.alarm_samples:
            return None
        true_size = self._size / (1 + _bias(config.k))
        worst: Crowd | None = None
        distances = _distances(target, ids)
        for found, away in enumerate(distances, start=1):
            expected = true_size * (away / _ID_SPACE)
            if found < config.alarm_crowd or found <= expected:
                continue
            crowd = Crowd(found, expected, _chance_of(found, expected))
            if worst is None or crowd.chance <= worst.chance:
                worst = crowd
        return worst if worst and worst.chance < config.alarm_chance else None

    def _mean(self) -> float:
        samples = sorted(self._samples.values())
        near, outlier = samples, self._config.outlier
        # Twice, as outliers pull the median by which they are told. First by the lower
        # quartile: crowds make samples larger, never smaller, so it takes three times
        # as many attacked keys as others before that is one of theirs.
        first = 4 if len(samples) >= self._config.quartile_samples else 2
        for share in (first, 2):
            # Of two, the lower: what a crowd adds makes the region too small.
            median = near[(len(near) - 1) // share]
            near = [s for s in samples if median / outlier <= s <= median * outlier]
        return sum(near) / len(near)


def _distances(target: bytes, ids: Iterable[bytes]) -> list[int]:
    """Distances to the target, shortest first, each id once and not the target's."""
    wish = int.from_bytes(target, "big")
    away = {int.from_bytes(node_id, "big") ^ wish for node_id in ids}
    away.discard(0)
    return sorted(away)


def _sample(distances: list[int], k: int) -> float:
    """The size that one closest set speaks for.

    Of N random ids the i-th nearest is i/N of the space away: the line through all k,
    by least squares over i/d_i.
    """
    if len(distances) < k:
        # Fewer than were asked for: these are all.
        return float(len(distances))
    weighted = sum(i * away for i, away in enumerate(distances, start=1))
    return _ID_SPACE * (_sum_of_squares(len(distances)) / weighted)


def _sum_of_squares(k: int) -> float:
    return k * (k + 1) * (2 * k + 1) / 6


@lru_cache(maxsize=8)
def _bias(k: int) -> float:
    """How much the mean of samples exceeds the size: 0.059 for 20 ids.

    The gaps between neighbours are exponential, so the variance of a sample's
    denominator is known; the mean of 1/x exceeds 1/(the mean of x) by it.
    """
    weights = [(k * (k + 1) - j * (j - 1)) / 2 for j in range(1, k + 1)]
    return sum(w * w for w in weights) / _sum_of_squares(k) ** 2


def _chance_of(found: int, expected: float) -> float:
    """The chance of at least so many points where so many are expected (Poisson)."""
    if expected <= 0.0:
        return 0.0
    term = math.exp(found * math.log(expected) - expected - math.lgamma(found + 1))
    chance, count = 0.0, found
    # Only called for found > expected: the terms fall at least geometrically.
    while term > chance * 1e-9:
        chance += term
        count += 1
        term *= expected / count
    return min(1.0, chance)
