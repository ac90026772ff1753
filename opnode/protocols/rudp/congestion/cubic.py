"""CUBIC (RFC 9438) with HyStart++ and the undo of a false alarm; owns the window."""

from typing import NamedTuple

from opnode.protocols.rudp.congestion.controller import (
    AckSample,
    LossSample,
    WindowLimits,
)
from opnode.protocols.rudp.congestion.hystart import HyStart, SlowStartPhase

# RFC 9438 §4.1 and §4.6: growth in segments per second cubed, and what a loss leaves.
_C = 0.4
_BETA = 0.7
# RFC 9438 §4.3: as aggressive as Reno although a loss halves less.
_RENO_ALPHA = 3.0 * (1.0 - _BETA) / (1.0 + _BETA)
# RFC 9002 §7.2.
_MIN_WINDOW_PACKETS = 2
# RFC 9002 §7.7: the rate is a little more than a window per round trip, so that pacing
# alone never keeps the window empty; in slow start the window doubles meanwhile.
_PACING_GAIN = 1.25
_SLOW_START_PACING_GAIN = 2.0


class _Undo(NamedTuple):
    """What the last cut overwrote (RFC 9438 §4.9.2)."""

    window: int
    threshold: int
    w_max: float
    k: float
    epoch_start: float | None
    reno_window: float
    reno_target: float
    phase: SlowStartPhase


class Cubic:
    """Slow start, cubic growth with its Reno-friendly floor, one cut per round trip."""

    __slots__ = (
        "_epoch_start",
        "_grown_at",
        "_hystart",
        "_k",
        "_maximum",
        "_reno_target",
        "_reno_window",
        "_smoothed_rtt_s",
        "_undo",
        "_w_max",
        "pacing_rate",
        "packet_size",
        "recovery_started_at",
        "slow_start_threshold",
        "window",
    )

    def __init__(self, limits: WindowLimits, *, rtt_s: float) -> None:
        """Start in slow start.

        Args:
            limits: Of the window.
            rtt_s: The round trip assumed, for the first pacing rate.
        """
        self.window = limits.initial
        self.packet_size = limits.packet_size
        self.slow_start_threshold = limits.maximum
        self.recovery_started_at = float("-inf")
        self.pacing_rate = _SLOW_START_PACING_GAIN * limits.initial / rtt_s
        self._maximum = limits.maximum
        self._hystart = HyStart()
        self._epoch_start: float | None = None
        self._grown_at = 0.0
        self._k = 0.0
        self._w_max = 0.0
        self._reno_window = 0.0
        self._reno_target = 0.0
        self._undo: _Undo | None = None
        self._smoothed_rtt_s = rtt_s

    @property
    def phase(self) -> str:
        """See ``CongestionController``."""
        return "slow start" if self.in_slow_start else "congestion avoidance"

    @property
    def in_slow_start(self) -> bool:
        """Whether acknowledged bytes are added to the window one for one."""
        return self.window < self.slow_start_threshold

    def on_sent(self, *, in_flight: int, now: float) -> None:
        """Nothing changes: only what comes back says something."""

    def on_ack(self, sample: AckSample) -> None:
        """Grow, if the window was the limit and the packets left after the last cut.

        Bytes sent before the last cut say nothing about the new window
        (RFC 9002 §7.3.2); a window that was not used is not known to be right
        (RFC 9438 §5.8).
        """
        self._smoothed_rtt_s = sample.smoothed_rtt_s
        if sample.newest_sent_at > self.recovery_started_at:
            if not sample.is_limited:
                self._skip_time(sample.now)
            elif self.window < self.slow_start_threshold:
                self._grow_in_slow_start(sample)
            else:
                self._grow_cubic(sample)
        self._set_pacing_rate()

    def on_lost(self, sample: LossSample) -> None:
        """Cut the window, once for all losses of one round trip."""
        if sample.sent_at > self.recovery_started_at:
            self._undo = _Undo(
                self.window,
                self.slow_start_threshold,
                self._w_max,
                self._k,
                self._epoch_start,
                self._reno_window,
                self._reno_target,
                self._hystart.phase,
            )
            self._cut(sample.now)

    def on_congestion_experienced(self, sample: AckSample) -> None:
        """A mark asks for the same cut as a loss (RFC 9002 §7.1), and is no error."""
        if sample.newest_sent_at > self.recovery_started_at:
            self._undo = None
            self._cut(sample.now)

    def on_spurious_loss(self, now: float) -> None:
        """Take the last cut back (RFC 9438 §4.9.2)."""
        undo, self._undo = self._undo, None
        if undo is None:
            return
        self.window = max(undo.window, self.window)
        self.slow_start_threshold = undo.threshold
        self._w_max, self._k = undo.w_max, undo.k
        self._epoch_start = undo.epoch_start
        if undo.epoch_start is not None:
            self._epoch_start = undo.epoch_start + now - self._grown_at
            self._grown_at = now
        self._reno_window, self._reno_target = undo.reno_window, undo.reno_target
        self._hystart.phase = undo.phase
        self.recovery_started_at = float("-inf")
        self._set_pacing_rate()

    def on_persistent_congestion(self, now: float) -> None:  # noqa: ARG002 - the interface's
        """Nothing arrived for a long time: start over from the bottom."""
        self.window = _MIN_WINDOW_PACKETS * self.packet_size
        self.recovery_started_at = float("-inf")
        self._epoch_start = None
        self._undo = None
        self._set_pacing_rate()

    def _grow_in_slow_start(self, sample: AckSample) -> None:
        hystart = self._hystart
        if hystart.phase is SlowStartPhase.DONE:
            self.window = min(self.window + sample.acked, self.slow_start_threshold)
            return
        hystart.on_ack(
            sample.latest_rtt_s,
            largest_acked=sample.largest_acked,
            next_number=sample.next_number,
        )
        growth = hystart.growth(sample.acked)
        if not growth:
            self.slow_start_threshold = self.window
            return
        grown = self.window + growth
        self.window = min(grown, self.slow_start_threshold, self._maximum)

    def _grow_cubic(self, sample: AckSample) -> None:
        now, size = sample.now, sample.acked
        window, packet_size = float(self.window), self.packet_size
        if self._epoch_start is None:
            self._epoch_start = now
            self._w_max = max(self._w_max, window)
            self._k = ((self._w_max - window) / packet_size / _C) ** (1 / 3)
            self._reno_window = window
        self._grown_at = now
        ahead = now - self._epoch_start + sample.smoothed_rtt_s - self._k
        target = self._w_max + _C * ahead * ahead * ahead * packet_size
        target = min(max(target, window), 1.5 * window)
        alpha = 1.0 if self._reno_window >= self._reno_target else _RENO_ALPHA
        self._reno_window += alpha * packet_size * size / window
        grown = window + (target - window) * size / window
        self.window = min(int(max(grown, self._reno_window)), self._maximum)

    def _skip_time(self, now: float) -> None:
        """Leave a time without growth out of the cubic's clock (RFC 9438 §5.8)."""
        if self._epoch_start is not None:
            self._epoch_start += now - self._grown_at
            self._grown_at = now

    def _cut(self, now: float) -> None:
        self.recovery_started_at = now
        self._hystart.phase = SlowStartPhase.DONE
        window = float(self.window)
        # Fast convergence (RFC 9438 §4.7): leave room to a flow that has just come.
        self._w_max = window * (1 + _BETA) / 2 if window < self._w_max else window
        self._reno_target = window
        least = _MIN_WINDOW_PACKETS * self.packet_size
        self.window = max(int(window * _BETA), least)
        self.slow_start_threshold = self.window
        self._epoch_start = None
        self._set_pacing_rate()

    def _set_pacing_rate(self) -> None:
        slow = self.window < self.slow_start_threshold
        gain = _SLOW_START_PACING_GAIN if slow else _PACING_GAIN
        self.pacing_rate = gain * self.window / max(self._smoothed_rtt_s, 1e-6)
