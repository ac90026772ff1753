"""Whether a figure grows with the size of a network no faster than its logarithm.

Owns the two fits. Refuses to know what grew.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

_LEAST_POINTS = 3


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """Least squares through (size, figure).

    Attributes:
        a, b: figure = a + b ln(size).
        r_squared: of that fit.
        residual_max: the largest distance to it, as a share of the figure there.
        exponent: of figure = c size^exponent, through the logarithms.
        exponent_late: the same through the last half of the sizes: what is linear or a
            root does not hide behind a large constant there.
    """

    a: float
    b: float
    r_squared: float
    residual_max: float
    exponent: float
    exponent_late: float


def growth(sizes: Sequence[float], figures: Sequence[float]) -> Growth | None:
    """Fit both laws; None for fewer than three sizes."""
    if len(sizes) < _LEAST_POINTS:
        return None
    x, y = np.log(np.asarray(sizes)), np.asarray(figures)
    slope, offset = np.polyfit(x, y, 1)
    residuals = y - (offset + slope * x)
    spread = float(((y - y.mean()) ** 2).sum())
    half = len(x) // 2
    return Growth(
        a=float(offset),
        b=float(slope),
        r_squared=1.0 - float((residuals**2).sum()) / spread if spread else 1.0,
        residual_max=float(np.abs(residuals / y).max()),
        exponent=float(np.polyfit(x, np.log(y), 1)[0]),
        exponent_late=float(np.polyfit(x[half:], np.log(y[half:]), 1)[0]),
    )
