"""What a checker raises."""

from opnode.core.errors import OpnodeError


class ViolationError(OpnodeError):
    """A checker saw something that must never happen.

    Our own code is at fault. The line of the run has the command that repeats it.

    Attributes:
        checker: the property that was broken.
        at_s: virtual seconds.
    """

    def __init__(
        self, checker: str, *, at_s: float, who: str, found: object, expected: str
    ) -> None:
        super().__init__(
            f"{checker}: at {at_s:.6f} s {who}: found {found}, expected {expected}"
        )
        self.checker = checker
        self.at_s = at_s
