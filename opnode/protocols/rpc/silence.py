"""Whether anybody answers: when to suspect that our UDP gets nowhere.

Owns when somebody answered last, and that requests fail since. Refuses to know whom was
asked, and what is done about a suspicion: it is cheap, and checked before anything is.
"""

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

SUSPICIOUS_S: Final = 2.0
"""No answer for so long while requests fail: two thirds of what a silent node takes to
be given up, so a busy node that misses one of many never gets here."""


class Silence:
    """Notices that requests fail while nobody answers.

    Attributes:
        on_suspicion: called at each failure of a silence that lasts.
    """

    __slots__ = ("_heard_at", "on_suspicion")

    def __init__(self) -> None:
        self.on_suspicion: Callable[[], None] = _unheard
        self._heard_at = -math.inf

    @property
    def heard_at(self) -> float:
        """When somebody answered last; minus infinity if nobody ever did."""
        return self._heard_at

    def heard(self, now: float) -> None:
        """Somebody answered."""
        self._heard_at = now

    def failed(self, now: float) -> None:
        """Somebody was asked for the last time and did not answer."""
        if now - self._heard_at >= SUSPICIOUS_S:
            self.on_suspicion()


def _unheard() -> None:
    return None
