"""How sure a share is that was counted: confidence limits for rare failures.

Owns the arithmetic. Refuses to know what failed.
"""

import math
from typing import Final

import msgspec

_CONFIDENCE: Final = 0.95
_STEPS: Final = 60


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """Successes among so many.

    ``failure_limit``: with 95 % confidence (one-sided) the share of failures is below
    it; with none among n it is 3/n, the rule of three.
    """

    tried: int
    failed: int
    success: float
    failure_limit: float


def share_of(tried: int, failed: int) -> Share:
    """The share, and what it may be at worst."""
    return Share(
        tried=tried,
        failed=failed,
        success=1.0 - failed / max(tried, 1),
        failure_limit=min(1.0, _poisson_limit(failed) / max(tried, 1)),
    )


def _poisson_limit(count: int) -> float:
    """The largest mean that gives so few with a probability of 5 %.

    Failures are rare and independent, so Poisson; exact to 1 % below a tenth of n.
    """
    low, high = 0.0, 10.0 + 3.0 * count
    for _ in range(_STEPS):
        middle = (low + high) / 2
        terms = (
            math.exp(k * math.log(middle) - middle - math.lgamma(k + 1))
            for k in range(count + 1)
        )
        if sum(terms) > 1 - _CONFIDENCE:
            low = middle
        else:
            high = middle
    return high
