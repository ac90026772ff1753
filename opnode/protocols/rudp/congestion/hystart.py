"""When to leave slow start before it overflows the queue (RFC 9406); sees round trips.

Owns the phase of the first slow start; the window belongs to the controller.
"""

import enum

# RFC 9406 §4.3. The limit of a burst, L, is infinite because we pace.
_MIN_RTT_THRESHOLD_S = 0.004
_MAX_RTT_THRESHOLD_S = 0.016
_MIN_RTT_DIVISOR = 8
# Half of the RFC's number: we ask for few acknowledgements, 32 of a whole window.
_RTT_SAMPLES = 4
_CSS_GROWTH_DIVISOR = 4
_CSS_ROUNDS = 5
_INFINITE = float("inf")


class SlowStartPhase(enum.Enum):
    """Where slow start is; DONE means congestion avoidance."""

    FAST = "fast"
    CONSERVATIVE = "conservative"
    DONE = "done"


class HyStart:
    """Watches each round's shortest round trip for the growth that a queue makes."""

    __slots__ = (
        "_baseline_s",
        "_css_rounds",
        "_current_s",
        "_newest_s",
        "_previous_s",
        "_round_end",
        "_samples",
        "phase",
    )

    def __init__(self) -> None:
        """Start in the first round of slow start."""
        self.phase = SlowStartPhase.FAST
        self._round_end = 0
        self._samples = 0
        self._css_rounds = 0
        self._previous_s = _INFINITE
        self._current_s = _INFINITE
        self._newest_s = _INFINITE
        self._baseline_s = _INFINITE

    def growth(self, acked: int) -> int:
        """Return by how many bytes the window grows for `acked` bytes, 0 when over."""
        if self.phase is SlowStartPhase.DONE:
            return 0
        if self.phase is SlowStartPhase.CONSERVATIVE:
            return max(acked // _CSS_GROWTH_DIVISOR, 1)
        return acked

    def on_ack(
        self, rtt_s: float | None, *, largest_acked: int, next_number: int
    ) -> None:
        """Take in the round trip of an ACK and go to the next round when it is time.

        Args:
            rtt_s: The round trip that it measured, if any.
            largest_acked: The largest packet number acknowledged.
            next_number: The next packet number to be sent, where a new round ends.
        """
        if largest_acked >= self._round_end:
            self._start_round(next_number)
        if rtt_s is None or self.phase is SlowStartPhase.DONE:
            return
        self._current_s = min(self._current_s, rtt_s)
        self._newest_s = min(self._newest_s, rtt_s)
        self._samples += 1
        if self._samples < _RTT_SAMPLES:
            return
        self._judge(self._newest_s)
        self._samples = 0
        self._newest_s = _INFINITE

    def _judge(self, shortest_s: float) -> None:
        """Change the phase by the shortest of the newest four round trips.

        Deviations from RFC 9406 §4.2, which takes the shortest of the round: a paced
        round that begins with an empty queue fills it towards its end, and the RFC's
        figure shows that a round later, when the window has doubled again. And a queue
        that has grown twice by the threshold needs no five rounds of proof.
        """
        if self.phase is SlowStartPhase.FAST:
            if shortest_s >= self._previous_s + _threshold_s(self._previous_s):
                self.phase = SlowStartPhase.CONSERVATIVE
                self._baseline_s = shortest_s
                self._css_rounds = 0
        elif shortest_s < self._baseline_s - _threshold_s(self._baseline_s) / 2:
            # The growth was noise: there is no queue.
            self.phase = SlowStartPhase.FAST
        elif shortest_s >= self._baseline_s + _threshold_s(self._baseline_s):
            self.phase = SlowStartPhase.DONE

    def _start_round(self, next_number: int) -> None:
        self._round_end = next_number
        self._previous_s = self._current_s
        self._current_s = _INFINITE
        if self.phase is SlowStartPhase.CONSERVATIVE:
            self._css_rounds += 1
            if self._css_rounds >= _CSS_ROUNDS:
                self.phase = SlowStartPhase.DONE


def _threshold_s(rtt_s: float) -> float:
    """Return the growth of a round trip that shows a queue."""
    least = max(rtt_s / _MIN_RTT_DIVISOR, _MIN_RTT_THRESHOLD_S)
    return min(least, _MAX_RTT_THRESHOLD_S)
