"""What lookups took that are followed one by one: on ``real`` and ``event``.

Owns what a round is where questions overlap, and the figures of many lookups. Refuses
to know engines.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Final

from simulations.quantiles import quantile
from simulations.run_context import Run
from simulations.scenarios.hops.question import (
    MAX_MEAN_ROUNDS,
    MAX_P99_ROUNDS,
    HopsFigures,
    Question,
    bits_per_hop,
    expected_hops,
)

_SUCCESS: Final = 0.99
"""Nodes that joined one after the other do not all know their true neighbours."""


@dataclass(slots=True)
class Ways:
    """What was measured, an element for each path or lookup.

    Attributes:
        hops: of greedy paths that arrived.
        lost: greedy paths that did not.
        rounds, asked, seconds: of each lookup until the nearest node was known.
        exact: of each lookup, whether it ended with all of the true closest.
    """

    hops: list[int] = field(default_factory=list)
    lost: int = 0
    rounds: list[int] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    exact: list[bool] = field(default_factory=list)

    def add(
        self,
        parents: Sequence[int | None],
        asked_at_s: Sequence[float],
        answered_at_s: Sequence[float],
        nearest: int,
    ) -> None:
        """Note a lookup by its questions, in the order in which they were asked.

        Args:
            parents: the question whose answer named its contact first; None: our own.
            asked_at_s: when each was asked, seconds.
            answered_at_s: when its answer came, infinite where there was none.
            nearest: the question to the nearest node.
        """
        parent = parents[nearest]
        # Nobody can tell before the first answer that its own contact is the nearest.
        known_s = min(answered_at_s) if parent is None else answered_at_s[parent]
        self.rounds.append(rounds_until(parents, nearest))
        self.asked.append(sum(at_s <= known_s for at_s in asked_at_s))
        self.seconds.append(known_s)

    def figures(self, asked: Question, run: Run) -> HopsFigures:
        """All of them together; also into the run's series and digest."""
        rounds = self.rounds
        mean_rounds, p99_rounds = fmean(rounds), int(quantile(rounds, 0.99))
        success = (len(self.hops) + sum(self.exact)) / (
            len(self.hops) + self.lost + len(self.exact)
        )
        _histogram(run, "hops", self.hops)
        _histogram(run, "rounds", rounds)
        run.fold(repr((self.hops, rounds, self.asked, self.seconds)).encode())
        is_short = mean_rounds <= MAX_MEAN_ROUNDS and p99_rounds <= MAX_P99_ROUNDS
        return HopsFigures(
            met=is_short and success >= _SUCCESS,
            mean_hops=fmean(self.hops),
            mean_hops_se=_standard_error(self.hops),
            sd_hops=_deviation(self.hops),
            p99_hops=quantile(self.hops, 0.99),
            hops_expected=expected_hops(asked),
            bits_per_hop=bits_per_hop(asked.k),
            mean_rounds=mean_rounds,
            mean_rounds_se=_standard_error(rounds),
            p99_rounds=p99_rounds,
            max_rounds=max(rounds),
            rpcs_mean=fmean(self.asked),
            lookup_s_median=quantile(self.seconds, 0.5),
            lookup_s_p99=quantile(self.seconds, 0.99),
            success=success,
        )


def rounds_until(parents: Sequence[int | None], nearest: int) -> int:
    """Answers that had to come one after the other until this contact was known.

    There are no rounds where questions overlap. But an answer that names somebody who
    names the nearest is two rounds, whoever else is asked meanwhile.
    """
    rounds = 0
    place = parents[nearest]
    while place is not None:
        rounds += 1
        place = parents[place]
    return max(1, rounds)


def _deviation(values: Sequence[float]) -> float:
    mean = fmean(values)
    return math.sqrt(fmean([(value - mean) ** 2 for value in values]))


def _standard_error(values: Sequence[float]) -> float:
    return _deviation(values) / math.sqrt(len(values))


def _histogram(run: Run, name: str, counts: Sequence[int]) -> None:
    for value in range(max(counts) + 1):
        run.row(name, **{name: value, "lookups": counts.count(value)})
