"""Wall time as an injected callable.

Owns the one place that reads the system's calendar clock. Refuses to know deadlines:
everything that waits uses trio's monotonic clock instead.
"""

import time
from typing import Protocol


class WallClock(Protocol):
    """Unix time in seconds; may jump, used for the expiry of records alone."""

    def __call__(self) -> float:
        """Read the clock."""
        ...


def system_wall_clock() -> float:
    """Unix time of the operating system, in seconds."""
    return time.time()
