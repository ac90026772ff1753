"""Whatever begins must end, well or badly, within the time it is given."""

from typing import Final

from simulations.checkers.violation import ViolationError


class EndingChecker:
    """Every introduction ends.

    Args:
        within_s: virtual seconds that one may take.
    """

    name: Final = "every introduction ends"

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s
        self._open: dict[int, tuple[float, str]] = {}
        self._begun = 0

    def begin(self, at_s: float, who: str) -> int:
        """One begins; returns its number for `end`."""
        self._begun += 1
        self._open[self._begun] = (at_s, who)
        return self._begun

    def end(self, at_s: float, number: int) -> None:
        """It ended, well or badly.

        Raises:
            ViolationError: it took too long.
        """
        began_s, who = self._open.pop(number)
        self._check(at_s, began_s, who)

    def finish(self, at_s: float) -> None:
        """The run is over.

        Raises:
            ViolationError: one that should have ended is still open.
        """
        for began_s, who in self._open.values():
            self._check(at_s, began_s, who)

    def _check(self, at_s: float, began_s: float, who: str) -> None:
        if at_s - began_s > self._within_s:
            raise ViolationError(
                self.name,
                at_s=at_s,
                who=who,
                found=f"{at_s - began_s:.3f} s since it began",
                expected=f"an end within {self._within_s:g} s",
            )
