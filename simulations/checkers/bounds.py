"""No queue, buffer or table grows past its bound."""

from typing import Final

from simulations.checkers.violation import ViolationError


class BoundChecker:
    """Compares sizes with the bounds that the configuration gives.

    Attributes:
        fullest: the largest share of a bound that was ever seen, by what it was of.
    """

    name: Final = "no queue past its bound"

    def __init__(self) -> None:
        self.fullest: dict[str, float] = {}

    def measured(
        self, at_s: float, who: str, what: str, *, size: int, bound: int
    ) -> None:
        """Something has this size.

        Raises:
            ViolationError: it is beyond its bound.
        """
        if size > bound:
            raise ViolationError(
                self.name,
                at_s=at_s,
                who=who,
                found=f"{size} {what}",
                expected=f"at most {bound}",
            )
        self.fullest[what] = max(size / bound, self.fullest.get(what, 0.0))
