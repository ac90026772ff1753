"""Statistics of one point: the median of its runs, and how far they spread.

Owns the choice of statistics. Refuses to know what is measured.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

LOW, HIGH = 0.1, 0.9
"""The band holds the middle eighty per cent of the runs."""

_MIDDLE: Final = 0.5


class Spread(NamedTuple):
    """What many runs found for one thing; quantiles are interpolated linearly."""

    median: float
    low: float
    high: float
    n: int


def spread(values: Sequence[float]) -> Spread:
    """Median and band of values, of which there is at least one."""
    low, median, high = np.quantile(np.asarray(values, float), (LOW, _MIDDLE, HIGH))
    return Spread(float(median), float(low), float(high), len(values))
