"""When the next burst may leave: a token bucket that keeps bursts whole; owns no clock.

Pacing spreads a window over its round trip (RFC 9002 §7.7). Timers of a busy process
are worth about a millisecond, so it lets bursts of a millisecond go at once: at high
rates whole GSO runs, at low rates two packets.
"""

# What the timer of a busy process is good for.
TIMER_S = 0.001
# What may leave at once after a pause (RFC 9002 §7.7: the initial window of 10).
_IDLE_PACKETS = 10
_IDLE_S = 0.002
# A sender with more to send that was woken late may catch up this much. On a machine
# with ten busy processes on two processors a wake-up is 11 to 20 ms late; what is not
# caught up is missing in the delivery rate, by which BBR sets the next rate: with 5 ms
# it fell to 27 % and 5 % of the link (CUBIC, with its window for the rate, did not).
_LATE_S = 0.025
# Steady state: wait for this much, bounded by what one send takes.
_RELEASE_PACKETS = 2
# Rounding of times must not make a timer fire a byte too early.
_SLACK_BYTES = 1.0
_MIN_WAIT_S = 1e-6


class Pacer:
    """Bytes that may leave now, and when there will be enough of them."""

    __slots__ = ("_is_waiting", "_tokens", "_updated_at", "next_send_at")

    def __init__(self, *, initial: int) -> None:
        """Let the first `initial` bytes leave at once."""
        # When a sender who was held back should try again; None when none was.
        self.next_send_at: float | None = None
        self._is_waiting = False
        self._tokens = float(initial)
        self._updated_at: float | None = None

    def budget(self, now: float, rate: float, packet_size: int) -> int:
        """Return how many bytes may leave now.

        Args:
            now: The present.
            rate: Bytes per second.
            packet_size: Size of a full packet in bytes.
        """
        updated_at, self._updated_at = self._updated_at, now
        if updated_at is not None and now > updated_at:
            grown = self._tokens + rate * (now - updated_at)
            held_s = _LATE_S if self._is_waiting else _IDLE_S
            most = max(_IDLE_PACKETS * packet_size, rate * held_s)
            self._tokens = min(grown, max(most, self._tokens))
        self._is_waiting = False
        self.next_send_at = None
        return int(self._tokens + _SLACK_BYTES)

    def enough(self, rate: float, packet_size: int) -> int:
        """Return how many bytes a sender with more to send should wait for."""
        return int(max(_RELEASE_PACKETS * packet_size, rate * TIMER_S))

    def wait_for(self, size: int, now: float, rate: float) -> None:
        """Note that `size` bytes wait: ``next_send_at`` says until when."""
        missing = max(size - self._tokens, 0.0)
        self.next_send_at = now + max(missing / max(rate, 1.0), _MIN_WAIT_S)
        self._is_waiting = True

    def on_deadline(self, now: float) -> None:
        """Forget a time that has come; the sender tries again by itself."""
        if self.next_send_at is not None and now >= self.next_send_at:
            self.next_send_at = None

    def on_sent(self, size: int) -> None:
        """Take bytes that leave out of the bucket; it may go below empty."""
        self._tokens -= size
