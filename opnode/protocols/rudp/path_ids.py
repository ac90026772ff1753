"""Which index of a connection id each path bears, in both directions; derives no id.

Both ends start with index 0. Whoever begins another path takes a higher one, the other
end follows with the same, so that nobody sees that two paths are one connection.
"""

from collections.abc import Iterable
from typing import Final

from opnode.protocols.rudp.path import Path

ID_WINDOW: Final = 4
"""How many indices of ids above the highest one that was used are accepted."""
LATE_IDS: Final = 6
"""How many below it: what left first on a long path comes later than the next one."""
MAX_ID_INDEX: Final = 1024
"""Highest index of an id: a connection that moved so often stays where it is."""


class PathIds:
    """The indices that were used, heard and seen."""

    __slots__ = ("_heard", "_initiator", "_retired", "_seen")

    def __init__(self, *, initiator: bool) -> None:
        """Start with index 0 in both directions."""
        self._initiator = initiator
        # The highest index of ours that the peer used, one that it has just left, and
        # the highest index of its own that it has seen.
        self._heard = 0
        self._retired = 0
        self._seen = 0

    def accepted(self, paths: Iterable[Path]) -> frozenset[int]:
        """Return the indices of our ids that packets may bear now."""
        stop = min(self._heard + ID_WINDOW, MAX_ID_INDEX) + 1
        first = max(self._heard - LATE_IDS, 0)
        indices = {self._retired, *range(first, stop)}
        for path in paths:
            if path.receive_index is not None:
                indices.add(path.receive_index)
        return frozenset(indices)

    def on_heard(self, path: Path, index: int) -> None:
        """The peer uses another id on a path: so do we, by the same index.

        That ends, as indices only grow: an answer to a change is no change.
        """
        before = path.receive_index
        if before is not None and index < before:
            return
        if before is not None:
            self._retired = before
        path.receive_index = index
        self._heard = max(self._heard, index)
        if path.send_index is None or index > path.send_index:
            path.send_index = index

    def on_answered(self, path: Path) -> None:
        """The peer answered what we sent on a path: it has seen our id there."""
        if path.send_index is not None:
            self._seen = max(self._seen, path.send_index)

    def index_for(self, path: Path, paths: Iterable[Path]) -> int | None:
        """Return the index of the peer's id for a path; None while no free one is left.

        Paths that the initiator begins get odd ones, the responder's even ones: both
        may begin one at the same time.
        """
        if path.send_index is None:
            used = {other.send_index for other in paths}
            first = self._seen + 1
            for index in range(first, min(first + ID_WINDOW, MAX_ID_INDEX)):
                if index % 2 == self._initiator and index not in used:
                    path.send_index = index
                    break
        return path.send_index
