"""What the peer may send, and how much of it at a time; counts, holds nothing.

A window starts small and doubles while its reader is fast, so that ten thousand idle
channels promise little and one busy channel is never held back by its window.
"""

from typing import Final

# Half a window read within this many round trips makes it double, and one that takes
# far longer makes it shrink again.
_FAST_ROUND_TRIPS: Final = 2
_SLOW_ROUND_TRIPS: Final = 64
# A busy process pauses this long: on a shorter round trip a window covers the pauses.
_PAUSE_S: Final = 0.025


class Credit:
    """Absolute numbers that only grow; raised by a part of the window at a time.

    Attributes:
        limit: What the peer was told.
        window: How far ahead of the reader the limit is set.
        maximum: What the window may become.
        received: The highest number that arrived.
        consumed: What was read, and so makes room.
    """

    __slots__ = (
        "_is_asked",
        "_since",
        "consumed",
        "limit",
        "maximum",
        "received",
        "smallest",
        "steps",
        "window",
    )

    def __init__(self, *, initial: int, maximum: int, steps: int = 2) -> None:
        """Start with what the protocol grants.

        Args:
            initial: The limit and the window at the start.
            maximum: The largest window.
            steps: In how many parts a window is granted.
        """
        self.steps = steps
        self.limit = initial
        self.window = self.smallest = min(initial, maximum)
        self.maximum = maximum
        self.received = 0
        self.consumed = 0
        self._is_asked = False
        self._since = 0.0

    @property
    def is_low(self) -> bool:
        """Whether the peer should be told a higher limit."""
        return self.consumed + self.window - self.limit >= self.window // self.steps

    def consume(self, size: int, now: float) -> bool:
        """Count what was read; true when a higher limit is due and was not before."""
        if not self.consumed:
            self._since = now
        self.consumed += size
        if self._is_asked or not self.is_low:
            return False
        self._is_asked = True
        return True

    def raise_limit(self) -> int:
        """Grant a whole window beyond what was consumed; returns the new limit."""
        self._is_asked = False
        self.limit = max(self.limit, self.consumed + self.window)
        return self.limit

    def tune(self, now: float, rtt_s: float, spare: int) -> int:
        """Fit the window to the speed of the reader, once per raise.

        Args:
            now: The present.
            rtt_s: The round trip.
            spare: Bytes that may be added.

        Returns:
            How many bytes were added, negative when it shrank.
        """
        took_s, self._since = now - self._since, now
        # As long as half a window would have taken.
        took_s *= self.steps / 2
        rtt_s = max(rtt_s, _PAUSE_S)
        change = 0
        if took_s < _FAST_ROUND_TRIPS * rtt_s:
            change = max(min(self.window, self.maximum - self.window, spare), 0)
        elif took_s > _SLOW_ROUND_TRIPS * rtt_s:
            change = max(self.window // 2, self.smallest) - self.window
        self.window += change
        return change
