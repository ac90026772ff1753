"""What BBR knows of the path: bandwidth, round trip, aggregation, safe inflight.

Filters and bounds only (draft-ietf-ccwg-bbr §5.5); which state the sender is in and
what it does with the figures is decided in ``bbr``.
"""

from opnode.protocols.rudp.congestion.controller import AckSample, RateSample
from opnode.protocols.rudp.congestion.pacer import TIMER_S

# §2.8 and §2.9 of the draft: what a loss leaves of the bounds.
_BETA = 0.7
# Room left to others while cruising.
_HEADROOM = 0.15
_MIN_RTT_WINDOW_S = 10.0
PROBE_RTT_INTERVAL_S = 5.0
# Rounds in one half of the window in which the largest aggregation is remembered.
_AGGREGATION_ROUNDS = 5
# Packets that are always allowed in flight.
_MIN_PIPE_PACKETS = 4
# Deviation from the draft: a round trip below this is the scheduling of two user-space
# processes rather than the path, and a window of so little would idle between wake-ups.
_MIN_PIPE_S = 0.002
INFINITE = float("inf")


class RoundCounter:
    """Counts round trips by what was delivered when the acknowledged was sent."""

    __slots__ = ("_end", "count", "is_start")

    def __init__(self) -> None:
        """Start in round 0."""
        self.count = 0
        self.is_start = False
        self._end = 0

    def update(self, rate: RateSample) -> None:
        """Take in a sample; ``is_start`` says whether it begins a round."""
        self.is_start = rate.prior_delivered >= self._end
        if self.is_start:
            self._end = rate.total_delivered
            self.count += 1

    def restart(self, total_delivered: int) -> None:
        """Begin a round with what is sent from now on."""
        self._end = total_delivered


class BandwidthFilter:
    """The most that was delivered in this and the last probing cycle."""

    __slots__ = ("_current", "_previous", "most")

    def __init__(self) -> None:
        """Start without a sample."""
        self.most = 0.0
        self._previous = 0.0
        self._current = 0.0

    def add(self, rate: float) -> None:
        """Take in bytes per second."""
        if rate > self._current:
            self._current = rate
            self.most = max(self.most, rate)

    def advance(self) -> None:
        """Begin a new cycle, unless the present one saw nothing."""
        if not self._current:
            return
        self._previous, self._current = self._current, 0.0
        self.most = self._previous


class PathModel:
    """The figures from which window and rate follow."""

    __slots__ = (
        "_aggregated",
        "_aggregation_newer",
        "_aggregation_older",
        "_aggregation_round",
        "_aggregation_start",
        "_inflight_latest",
        "_loss_round_end",
        "_min_rtt_at",
        "_rate_latest",
        "bandwidth_low",
        "filter",
        "inflight_high",
        "inflight_low",
        "is_congested_round",
        "is_loss_round_start",
        "min_rtt_s",
        "packet_size",
        "probe_rtt_at",
        "probe_rtt_expired",
        "probe_rtt_min_s",
    )

    def __init__(self, *, packet_size: int) -> None:
        """Know nothing."""
        self.packet_size = packet_size
        self.filter = BandwidthFilter()
        self.min_rtt_s = INFINITE
        self.probe_rtt_min_s = INFINITE
        self.probe_rtt_at = 0.0
        self.probe_rtt_expired = False
        self.bandwidth_low = INFINITE
        self.inflight_low = INFINITE
        self.inflight_high = INFINITE
        self.is_congested_round = False
        self.is_loss_round_start = False
        self._min_rtt_at = 0.0
        self._rate_latest = 0.0
        self._inflight_latest = 0
        self._loss_round_end = 0
        self._aggregated = 0
        self._aggregation_start = 0.0
        self._aggregation_older = 0
        self._aggregation_newer = 0
        self._aggregation_round = 0

    @property
    def bandwidth(self) -> float:
        """Bytes per second that may be used now."""
        return min(self.filter.most, self.bandwidth_low)

    @property
    def latest_inflight(self) -> int:
        """The most bytes delivered in one round trip of this loss round."""
        return self._inflight_latest

    @property
    def min_pipe(self) -> int:
        """Bytes that are always allowed in flight."""
        return _MIN_PIPE_PACKETS * self.packet_size

    def product(self, gain: float) -> float:
        """Bytes in flight at `gain` times the bandwidth-delay product."""
        if self.min_rtt_s == INFINITE:
            return INFINITE
        return gain * self.bandwidth * max(self.min_rtt_s, _MIN_PIPE_S)

    @property
    def is_short(self) -> bool:
        """Whether the round trip is less than what the timer of a process is good for.

        Such a path is a machine or a room, and its bandwidth is what two processes make
        of it from one moment to the next.
        """
        return self.min_rtt_s < TIMER_S

    @property
    def inflight_with_headroom(self) -> float:
        """The safe inflight, less what is left to others."""
        if self.inflight_high == INFINITE:
            return INFINITE
        headroom = max(_HEADROOM * self.inflight_high, self.packet_size)
        return max(self.inflight_high - headroom, self.min_pipe)

    @property
    def aggregation(self) -> int:
        """Bytes by which acknowledgements ran ahead of the bandwidth lately."""
        return max(self._aggregation_older, self._aggregation_newer)

    def update_latest(self, rate: RateSample) -> None:
        """Take in the rate, and see whether a round of losses is complete."""
        self._rate_latest = max(self._rate_latest, rate.bytes_per_s)
        self._inflight_latest = max(self._inflight_latest, rate.delivered)
        self.is_loss_round_start = rate.prior_delivered >= self._loss_round_end
        if self.is_loss_round_start:
            self._loss_round_end = rate.total_delivered
        per_s = rate.bytes_per_s
        if per_s >= self.filter.most or not rate.is_app_limited:
            self.filter.add(per_s)

    def end_loss_round(self, rate: RateSample) -> None:
        """Forget the round that is over."""
        if self.is_loss_round_start:
            self.is_congested_round = False
            self._rate_latest = rate.bytes_per_s
            self._inflight_latest = rate.delivered

    def note_congestion(self, total_delivered: int) -> None:
        """A loss or a mark: the round in which it happened ends a round from now."""
        if not self.is_congested_round:
            self._loss_round_end = total_delivered
            self.is_congested_round = True

    def lower_bounds(self, window: int) -> None:
        """Come down after a round with losses (§5.5.10.3)."""
        if self.bandwidth_low == INFINITE:
            self.bandwidth_low = self.filter.most
        if self.inflight_low == INFINITE:
            self.inflight_low = window
        self.bandwidth_low = max(self._rate_latest, _BETA * self.bandwidth_low)
        self.inflight_low = max(self._inflight_latest, _BETA * self.inflight_low)

    def reset_lower_bounds(self) -> None:
        """Forget what losses said for the short term."""
        self.bandwidth_low = self.inflight_low = INFINITE

    def reset_congestion(self) -> None:
        """Forget the losses of this round."""
        self.is_congested_round = False
        self._rate_latest = 0.0
        self._inflight_latest = 0

    def update_aggregation(
        self, sample: AckSample, *, rounds: int, window: int
    ) -> None:
        """Measure by how much acknowledgements come in clumps (§5.5.9)."""
        if rounds - self._aggregation_round >= _AGGREGATION_ROUNDS:
            self._aggregation_round = rounds
            self._aggregation_older = self._aggregation_newer
            self._aggregation_newer = 0
        expected = self.bandwidth * (sample.now - self._aggregation_start)
        if self._aggregated <= expected:
            self.restart_aggregation(sample.now)
            expected = 0.0
        self._aggregated += sample.acked
        extra = min(self._aggregated - expected, window)
        self._aggregation_newer = max(self._aggregation_newer, int(extra))

    def restart_aggregation(self, now: float) -> None:
        """Measure from now on."""
        self._aggregated = 0
        self._aggregation_start = now

    def update_min_rtt(self, rtt_s: float | None, now: float) -> None:
        """Take in a round trip; the minimum of 10 s counts (§5.5.7)."""
        self.probe_rtt_expired = now > self.probe_rtt_at + PROBE_RTT_INTERVAL_S
        if rtt_s is not None and (
            rtt_s < self.probe_rtt_min_s or self.probe_rtt_expired
        ):
            self.probe_rtt_min_s = rtt_s
            self.probe_rtt_at = now
        is_old = now > self._min_rtt_at + _MIN_RTT_WINDOW_S
        if self.probe_rtt_min_s < self.min_rtt_s or is_old:
            self.min_rtt_s = self.probe_rtt_min_s
            self._min_rtt_at = self.probe_rtt_at
