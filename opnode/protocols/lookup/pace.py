"""How many queries a lookup keeps in flight: more while contacts turn out dead.

Owns the number. Refuses to know who is asked.
"""

from typing import Final

_GROWTH: Final = 2.0
"""Two for one that is late: where a third are dead, as many as are alive are asked."""
_DECAY: Final = 0.5
"""Four answers take one late contact back."""


class Pace:
    """An alpha (Kademlia §2.3) that adapts to how many contacts answer."""

    __slots__ = ("_alpha", "_least", "_most")

    def __init__(self, least: int, most: int) -> None:
        """``least`` queries in flight where all answer, ``most`` where few do."""
        self._least = self._alpha = float(least)
        self._most = float(max(least, most))

    @property
    def alpha(self) -> int:
        """Queries that may be in flight now."""
        return int(self._alpha)

    def answered(self) -> None:
        """A contact answered in time."""
        if self._alpha > self._least:
            self._alpha = max(self._least, self._alpha - _DECAY)

    def missed(self) -> None:
        """A contact is late, or will not answer."""
        self._alpha = min(self._most, self._alpha + _GROWTH)
