"""Whether another path is better than the one that carries data.

Owns the comparison by rank and round trip, and the doubt in a path that fell silent.
Refuses to know who moves when, and how anything is measured.
"""

from collections.abc import Iterable
from typing import Final

from opnode.protocols.rudp.path import Path

# Another path of the same rank is better when it costs so much less, so often in a row;
# each condition alone would let two equal paths take turns.
_BETTER_SHARE: Final = 0.75
_BETTER_S: Final = 0.002
_BETTER_ROUNDS: Final = 3
# A path of a better rank that was left for a worse one has to answer this often before
# it is taken again: three times at first, and twice as often after each time.
_FIRST_DOUBT: Final = 3
_MAX_DOUBT: Final = 24


class PathChoice:
    """Judges the answers of the paths that carry nothing."""

    __slots__ = ("_doubts", "_rounds")

    def __init__(self) -> None:
        """Start without an opinion."""
        self._rounds: dict[Path, int] = {}
        self._doubts: dict[Path, int] = {}

    def prefers(self, path: Path, active: Path, shortest_rtt_s: float | None) -> bool:
        """Whether to leave ``active`` for a path that just answered.

        Args:
            path: It is validated.
            active: It carries data.
            shortest_rtt_s: What data measured on it, None before the first.
        """
        if path.rank != active.rank:
            is_better, wanted = path.rank < active.rank, self._doubts.get(path, 1)
        else:
            is_better = _is_shorter(path, active, shortest_rtt_s)
            wanted = _BETTER_ROUNDS
        rounds = self._rounds.get(path, 0) + 1 if is_better else 0
        self._rounds[path] = rounds
        return rounds >= wanted

    def moved(self, old: Path, new: Path) -> None:
        """Data goes another way from now on."""
        self._rounds.clear()
        if new.rank > old.rank:
            before = self._doubts.get(old)
            doubt = _FIRST_DOUBT if before is None else 2 * before
            self._doubts[old] = min(doubt, _MAX_DOUBT)

    def forget(self, path: Path) -> None:
        """The path is no more."""
        self._rounds.pop(path, None)
        self._doubts.pop(path, None)


def best_of(paths: Iterable[Path], asked_at: float) -> Path | None:
    """The path to take when the active one is silent.

    Whoever answered since they all were asked comes first, as the others may be as
    dead; then ranks decide, then round trips.
    """
    return min(
        paths,
        key=lambda path: (path.answered_at < asked_at, path.rank, *_length(path)),
        default=None,
    )


def _is_shorter(path: Path, active: Path, shortest_rtt_s: float | None) -> bool:
    cost_s, active_cost_s = path.cost_s(), active.cost_s(shortest_rtt_s)
    if cost_s is None or active_cost_s is None:
        return False
    gained_s = active_cost_s - cost_s
    return cost_s < _BETTER_SHARE * active_cost_s and gained_s > _BETTER_S


def _length(path: Path) -> tuple[float, float]:
    cost_s = path.cost_s()
    return (path.rtt.smoothed if cost_s is None else cost_s, -path.answered_at)
