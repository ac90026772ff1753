"""How many bytes may be in flight: CUBIC (RFC 9438); sees bytes and times only."""

from opnode.protocols.rudp.packet import BASE_PACKET_SIZE

# RFC 9438 §4.1 and §4.6: growth in segments per second cubed, and what a loss leaves.
_C = 0.4
_BETA = 0.7
# RFC 9438 §4.3: as aggressive as Reno although a loss halves less.
_RENO_ALPHA = 3.0 * (1.0 - _BETA) / (1.0 + _BETA)
# RFC 9002 §7.2.
_MIN_WINDOW = 2 * BASE_PACKET_SIZE


class CongestionWindow:
    """Slow start, CUBIC growth with its Reno-friendly floor, one cut per round trip."""

    __slots__ = (
        "_epoch_start",
        "_k",
        "_max_window",
        "_reno_target",
        "_reno_window",
        "_w_max",
        "recovery_started_at",
        "slow_start_threshold",
        "window",
    )

    def __init__(self, *, initial: int, maximum: int) -> None:
        """Start in slow start; both sizes in bytes."""
        self.window = initial
        self.slow_start_threshold = maximum
        self.recovery_started_at = float("-inf")
        self._max_window = maximum
        self._epoch_start: float | None = None
        self._k = 0.0
        self._w_max = 0.0
        self._reno_window = 0.0
        self._reno_target = 0.0

    @property
    def in_slow_start(self) -> bool:
        """Whether every acknowledged byte still adds one byte."""
        return self.window < self.slow_start_threshold

    def on_acked(self, size: int, *, sent_at: float, now: float, rtt_s: float) -> None:
        """Grow for `size` bytes that were sent while the window was the limit.

        Bytes sent before the last cut say nothing about the new window
        (RFC 9002 §7.3.2) and do not count.
        """
        if sent_at <= self.recovery_started_at or self.window >= self._max_window:
            return
        if self.in_slow_start:
            self.window = min(self.window + size, self._max_window)
            return
        self._grow_cubic(size, now, rtt_s)

    def on_idle(self) -> None:
        """The application was the limit: start a new growth epoch (RFC 9438 §5.8)."""
        self._epoch_start = None

    def on_lost(self, *, sent_at: float, now: float) -> None:
        """Cut the window, once for all losses of one round trip.

        Args:
            sent_at: When the newest of the lost packets was sent.
            now: The present.
        """
        if sent_at <= self.recovery_started_at:
            return
        self.recovery_started_at = now
        window = float(self.window)
        # Fast convergence (RFC 9438 §4.7): leave room to a flow that has just come.
        self._w_max = window * (1 + _BETA) / 2 if window < self._w_max else window
        self._reno_target = window
        self.window = max(int(window * _BETA), _MIN_WINDOW)
        self.slow_start_threshold = self.window
        self._epoch_start = None

    def on_persistent_congestion(self) -> None:
        """Nothing arrived for a long time: start over from the bottom."""
        self.window = _MIN_WINDOW
        self.recovery_started_at = float("-inf")
        self._epoch_start = None

    def _grow_cubic(self, size: int, now: float, rtt_s: float) -> None:
        window = float(self.window)
        if self._epoch_start is None:
            self._epoch_start = now
            self._w_max = max(self._w_max, window)
            self._k = ((self._w_max - window) / BASE_PACKET_SIZE / _C) ** (1 / 3)
            self._reno_window = window
        ahead = now - self._epoch_start + rtt_s - self._k
        target = self._w_max + _C * ahead * ahead * ahead * BASE_PACKET_SIZE
        target = min(max(target, window), 1.5 * window)
        alpha = 1.0 if self._reno_window >= self._reno_target else _RENO_ALPHA
        self._reno_window += alpha * BASE_PACKET_SIZE * size / window
        grown = window + (target - window) * size / window
        self.window = min(int(max(grown, self._reno_window)), self._max_window)
