"""What is asked of each backend about hops, and what it answers.

Owns the values that the backends share, and the bars. Refuses to know engines.
"""

import math
from dataclasses import dataclass
from typing import Final

from simulations.model.round_trips import RoundTripLaw
from simulations.scenario import Figures

HOP_TABLE: Final = {
    8: {10**3: 2.44, 10**4: 3.18, 10**5: 3.92, 10**6: 4.69, 10**7: 5.44},
    20: {10**3: 1.97, 10**4: 2.57, 10**5: 3.16, 10**6: 3.73, 10**7: 4.33},
}
"""Mean hops by k and number of nodes, of another implementation of the same model."""

TOLERANCE_HOPS: Final = 0.03
MAX_MEAN_ROUNDS: Final = 3.5
MAX_P99_ROUNDS: Final = 5

_BAR_K: Final = 20
_BAR_ALPHA: Final = 3
_BAR_NODES: Final = 10**7


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What every backend is asked.

    Attributes:
        alpha: nodes that a lookup asks at once.
        law: of round trips.
        settled: tables are filled from the truth, on ``real`` too, in place of joining.
    """

    nodes: int
    k: int
    alpha: int
    lookups: int
    law: RoundTripLaw
    settled: bool = False


class HopsFigures(Figures, frozen=True, kw_only=True):
    """What one run found.

    Attributes:
        mean_hops: of greedy paths from a random node to another, on ``vector`` with
            buckets of k independent draws as in closed forms; ``mean_hops_se`` is its
            standard error.
        hops_expected: what the published table says; None outside of it.
        mean_hops_distinct: the same with buckets of k different nodes.
        bits_per_hop: what a hop gains in theory.
        mean_rounds: until an iterative lookup knows the node nearest to a key.
        rpcs_mean: nodes asked until then.
        lookup_s_median: until the last answer of that round; where questions overlap,
            until the answer that names the nearest.
        success: greedy paths that arrived, and lookups that asked all of the k true
            closest nodes, of both; None on ``vector``, where it is certain.
    """

    mean_hops: float
    mean_hops_se: float
    sd_hops: float
    p99_hops: float
    hops_expected: float | None = None
    mean_hops_distinct: float | None = None
    mean_hops_distinct_se: float | None = None
    bits_per_hop: float
    mean_rounds: float
    mean_rounds_se: float
    p99_rounds: float
    max_rounds: float
    rpcs_mean: float
    lookup_s_median: float
    lookup_s_p99: float
    success: float | None = None


def bits_per_hop(k: int) -> float:
    """What a hop gains: one bit for sure, and the best of k random ids below it."""
    gains = (1.0 - (1.0 - 2.0**-bit) ** k for bit in range(1, 80))
    return 1.0 + math.fsum(gains)


def expected_hops(question: Question) -> float | None:
    """The table's mean, where it has one."""
    return HOP_TABLE.get(question.k, {}).get(question.nodes)


def meets_bars(question: Question, mean_hops: float, rounds: tuple[float, int]) -> bool:
    """Whether hops, and mean and 99th percentile of the rounds, are as promised."""
    expected = expected_hops(question)
    if expected is not None and abs(mean_hops - expected) > TOLERANCE_HOPS:
        return False
    promised = question.k >= _BAR_K and question.alpha >= _BAR_ALPHA
    if not promised or question.nodes > _BAR_NODES:
        return True
    return rounds[0] <= MAX_MEAN_ROUNDS and rounds[1] <= MAX_P99_ROUNDS
