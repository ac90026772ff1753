"""BBR version 3 (draft-ietf-ccwg-bbr): sends at the rate at which the path delivers.

Owns the states and what follows from them; what is known of the path is in
``bbr_model``. Section numbers are those of the draft.
"""

import enum
import random

from opnode.protocols.rudp.congestion.bbr_model import (
    INFINITE,
    PROBE_RTT_INTERVAL_S,
    PathModel,
    RoundCounter,
)
from opnode.protocols.rudp.congestion.controller import (
    AckSample,
    LossSample,
    WindowLimits,
)

_LOSS_THRESHOLD = 0.02
_BETA = 0.7
# What too many losses leave of the inflight at which they came. Deviation from
# §5.3.3.7, which goes on from there: what is given back a little each time goes to the
# flow that has less.
_BACKOFF = 0.9
# Losses that no round is judged by: of 400 packets on a path that loses 1 %, more than
# 2 % are lost in one round of thirty, more than 3 % in one of two thousand.
_NOISE = 0.03
_NOISE_PACKETS = 3
# The rate stays this far below the estimate, so that queues drain.
_PACING_MARGIN = 0.99
# §5.3.1: three rounds without a quarter more bandwidth fill the pipe.
_STARTUP_GROWTH = 1.25
_STARTUP_ROUNDS = 3
_STARTUP_LOSSES = 6
_PROBE_RTT_S = 0.2
_PROBE_RTT_WINDOW_GAIN = 0.5
# §5.3.3.8: probe as often as a Reno flow would recover from a loss, at most every 63
# rounds, and every two or three seconds. Twice as often two flows of BBR come to equal
# shares sooner, but CUBIC beside one got 14 % of 100 Mbit/s and not 30 to 38 %.
_MAX_RENO_ROUNDS = 63
_PROBE_WAIT_S = 2.0
_MAX_PROBE_UP_ROUNDS = 30
# A send takes up to 64 KB at once; the window has room for three.
_QUANTUM_S = 0.001
_MAX_QUANTUM = 65_536
_QUANTA = 3


class BbrState(enum.Enum):
    """What the sender is doing (§5.2)."""

    STARTUP = "startup"
    DRAIN = "drain"
    DOWN = "down"
    CRUISE = "cruise"
    REFILL = "refill"
    UP = "up"
    PROBE_RTT = "probe rtt"


# Multiples of the bandwidth and of the bandwidth-delay product (§5.6.1).
_PACING_GAINS = {
    BbrState.STARTUP: 2.77,
    BbrState.DRAIN: 0.5,
    BbrState.DOWN: 0.9,
    BbrState.CRUISE: 1.0,
    BbrState.REFILL: 1.0,
    BbrState.UP: 1.25,
    BbrState.PROBE_RTT: 1.0,
}
# Deviation from the draft: on a short path the window alone limits, as pacing would
# keep the rate at what it was while the machine was busy with something else.
_SHORT_PACING_GAIN = 2.77
_WINDOW_GAINS = dict.fromkeys(BbrState, 2.0) | {
    BbrState.UP: 2.25,
    BbrState.PROBE_RTT: 0.5,
}


class _AckPhase(enum.Enum):
    """Which part of a probe the acknowledgements that come now belong to."""

    INIT = 0
    REFILLING = 1
    STARTING = 2
    FEEDBACK = 3
    STOPPING = 4


_PROBING_BANDWIDTH = (BbrState.DOWN, BbrState.CRUISE, BbrState.REFILL, BbrState.UP)
# States that look for more: a loss there does not lower the bounds of the short term.
_LOOKING_FOR_MORE = (BbrState.STARTUP, BbrState.REFILL, BbrState.UP)
# States that nothing but a full window, a loss or their time ends.
_AT_REST = (BbrState.STARTUP, BbrState.CRUISE, BbrState.UP)


class Bbr:
    """Startup, drain, then cycles that probe for bandwidth and for the round trip."""

    __slots__ = (
        "_ack_phase",
        "_acked_in_round",
        "_cycle_at",
        "_full_bandwidth",
        "_full_rounds",
        "_idle_restart",
        "_initial",
        "_is_full",
        "_is_full_now",
        "_is_marked_round",
        "_is_probing_samples",
        "_losses_in_round",
        "_lost_in_round",
        "_maximum",
        "_model",
        "_prior_window",
        "_probe_rtt_done_at",
        "_probe_rtt_round_done",
        "_probe_up_acked",
        "_probe_up_every",
        "_probe_up_rounds",
        "_probe_wait_s",
        "_rng",
        "_rounds",
        "_rounds_since_probe",
        "_total_delivered",
        "pacing_rate",
        "state",
        "window",
    )

    def __init__(
        self, limits: WindowLimits, *, rtt_s: float, rng: random.Random
    ) -> None:
        """Start in STARTUP.

        Args:
            limits: Of the window.
            rtt_s: The round trip assumed, for the first pacing rate.
            rng: Spreads the probes of flows that share a path.
        """
        self.window = limits.initial
        self.state = BbrState.STARTUP
        self.pacing_rate = _PACING_GAINS[self.state] * limits.initial / rtt_s
        self._initial, self._maximum = limits.initial, limits.maximum
        self._model = PathModel(packet_size=limits.packet_size)
        self._rounds = RoundCounter()
        self._rng = rng
        self._total_delivered = 0
        self._is_full = self._is_full_now = False
        self._full_bandwidth = 0.0
        self._full_rounds = 0
        self._losses_in_round = self._lost_in_round = self._acked_in_round = 0
        self._is_marked_round = False
        self._idle_restart = False
        self._ack_phase = _AckPhase.INIT
        self._is_probing_samples = False
        self._cycle_at = 0.0
        self._probe_wait_s = _PROBE_WAIT_S
        self._rounds_since_probe = 0
        self._probe_up_acked = self._probe_up_rounds = 0
        self._probe_up_every = INFINITE
        self._probe_rtt_done_at: float | None = None
        self._probe_rtt_round_done = False
        self._prior_window = limits.initial

    @property
    def packet_size(self) -> int:
        """Size of a full packet."""
        return self._model.packet_size

    @packet_size.setter
    def packet_size(self, size: int) -> None:
        self._model.packet_size = size

    # --- what happens ---------------------------------------------------------------

    @property
    def phase(self) -> str:
        """See ``CongestionController``."""
        return self.state.value

    def on_sent(self, *, in_flight: int, now: float) -> None:
        """Sending begins anew after a pause: go at the known rate (§5.4.1)."""
        if in_flight or self.state is BbrState.STARTUP:
            return
        self._idle_restart = True
        self._model.restart_aggregation(now)
        if self.state in _PROBING_BANDWIDTH:
            self._set_pacing_rate(1.0)
        elif self.state is BbrState.PROBE_RTT:
            self._leave_probe_rtt_when_done(now)

    def on_ack(self, sample: AckSample) -> None:
        """Learn from an acknowledgement, change state, set window and rate."""
        model, rate = self._model, sample.rate
        self._total_delivered = rate.total_delivered
        if self._tells_nothing(sample):
            return
        self._acked_in_round += sample.acked
        self._rounds.update(rate)
        self._rounds_since_probe += self._rounds.is_start
        model.update_latest(rate)
        if (
            model.is_loss_round_start
            and self._is_round_congested
            and self.state not in _LOOKING_FOR_MORE
        ):
            model.lower_bounds(self.window)
        model.update_aggregation(sample, rounds=self._rounds.count, window=self.window)
        self._check_full(sample)
        self._check_startup_and_drain(sample)
        self._update_cycle(sample)
        model.update_min_rtt(sample.latest_rtt_s, sample.now)
        self._check_probe_rtt(sample)
        if model.is_loss_round_start:
            self._losses_in_round = self._lost_in_round = self._acked_in_round = 0
            self._is_marked_round = False
        model.end_loss_round(rate)
        self._set_pacing_rate(_PACING_GAINS[self.state])
        self._set_window(sample)

    def _tells_nothing(self, sample: AckSample) -> bool:
        """Whether a lone message was acknowledged, which only measures the round trip.

        It is no round of the path, whose states wait until there is more to send: 2 µs
        instead of 9 µs a message. Whatever might change something takes the long way.
        """
        model, rate = self._model, sample.rate
        if (
            sample.in_flight
            or sample.is_limited
            or sample.lost
            or not rate.is_app_limited
            or self.state not in _AT_REST
            or model.is_congested_round
            or self._lost_in_round
            or self._is_marked_round
            or rate.bytes_per_s > model.filter.most
            or sample.now > model.probe_rtt_at + PROBE_RTT_INTERVAL_S
        ):
            return False
        model.update_min_rtt(sample.latest_rtt_s, sample.now)
        self._idle_restart = False
        return True

    def on_lost(self, sample: LossSample) -> None:
        """A loss: the inflight that was probed may be too high (§5.5.10.2)."""
        self._model.note_congestion(self._total_delivered)
        self._losses_in_round += 1
        self._lost_in_round += sample.size
        if not self._is_probing_samples:
            return
        if sample.lost > self._bearable(sample.in_flight):
            inflight = 0.0 if sample.is_app_limited else _inflight_before(sample)
            self._on_inflight_too_high(inflight, sample.now)

    def on_congestion_experienced(self, sample: AckSample) -> None:
        """A mark means what a round with too many losses means (RFC 9002 §7.1)."""
        self._model.note_congestion(self._total_delivered)
        self._is_marked_round = True
        if self._is_probing_samples:
            inflight = 0 if sample.rate.is_app_limited else sample.rate.in_flight
            self._on_inflight_too_high(inflight, sample.now)
        elif self.state is BbrState.STARTUP:
            self._fill(sample.rate.in_flight)

    def on_spurious_loss(self, now: float) -> None:  # noqa: ARG002 - the interface's
        """Nothing was lost: forget the bounds that losses set (§5.5.11)."""
        self._model.reset_lower_bounds()
        self._model.is_congested_round = False
        self._model.inflight_high = INFINITE
        self.window = max(self.window, self._prior_window)

    def on_persistent_congestion(self, now: float) -> None:  # noqa: ARG002 - the interface's
        """Nothing arrived for a long time: the smallest window until it does."""
        self._prior_window = max(self._prior_window, self.window)
        self.window = self._model.min_pipe

    @property
    def _is_round_congested(self) -> bool:
        """Whether the round that ends lost more than noise.

        Deviation from §5.5.10.3, where a single loss lowers the bounds: the rate of a
        round is never above the bound that it was paced by, so a path that loses 1 %
        at random would be left by 2 % each round.
        """
        model = self._model
        judged = model.product(1.0)
        if model.is_short:
            # What two processes have in flight is several times the product, and losses
            # of almost two round trips may count as those of one.
            judged = max(judged, float(self._acked_in_round))
        noise = max(_NOISE * judged, _NOISE_PACKETS * self.packet_size)
        return self._is_marked_round or self._lost_in_round > noise

    def _bearable(self, in_flight: int) -> float:
        """Return how many bytes of those in flight may be lost while probing.

        On a short path what is in flight swings with the scheduling, and a probe is
        over before chance evens out: of 400 packets of which 1 % is lost, more than
        2 % are lost once in 47 times.
        """
        if not self._model.is_short:
            return in_flight * _LOSS_THRESHOLD
        judged = max(in_flight, self.window)
        return max(judged * _NOISE, float(_NOISE_PACKETS * self.packet_size))

    # --- startup and drain ----------------------------------------------------------

    def _check_full(self, sample: AckSample) -> None:
        """Tell whether bandwidth has stopped to grow (§5.3.1.2)."""
        rate = sample.rate
        if self._is_full_now or not self._rounds.is_start or rate.is_app_limited:
            return
        if rate.bytes_per_s >= self._full_bandwidth * _STARTUP_GROWTH:
            self._reset_full(rate.bytes_per_s)
            return
        self._full_rounds += 1
        self._is_full_now = self._full_rounds >= _STARTUP_ROUNDS
        self._is_full = self._is_full or self._is_full_now

    def _reset_full(self, bandwidth: float) -> None:
        self._full_bandwidth = bandwidth
        self._full_rounds = 0
        self._is_full_now = False

    def _check_startup_and_drain(self, sample: AckSample) -> None:
        model = self._model
        if self.state is BbrState.STARTUP:
            if model.is_loss_round_start and self._has_startup_losses(sample):
                self._fill(max(model.product(1.0), model.latest_inflight))
            if self._is_full:
                self.state = BbrState.DRAIN
        if self.state is BbrState.DRAIN and sample.in_flight <= model.product(1.0):
            self._start_down(sample.now)

    def _has_startup_losses(self, sample: AckSample) -> bool:
        """Whether a whole round lost too much (§5.3.1.3)."""
        # In flight may have doubled since the acknowledged packets left.
        most = max(sample.in_flight, sample.rate.in_flight)
        many = self._losses_in_round >= _STARTUP_LOSSES
        return many and self._lost_in_round > most * _NOISE

    def _fill(self, inflight: float) -> None:
        self._is_full = True
        self._model.inflight_high = max(inflight, self._model.min_pipe)

    # --- probing for bandwidth ------------------------------------------------------

    def _update_cycle(self, sample: AckSample) -> None:
        """Walk through DOWN, CRUISE, REFILL and UP (§5.3.3.6)."""
        if not self._is_full:
            return
        self._adapt_long_term(sample)
        state, now = self.state, sample.now
        if state in (BbrState.DOWN, BbrState.CRUISE):
            if self._is_time_to_probe(now):
                self._start_refill()
            elif state is BbrState.DOWN and self._is_drained(sample.in_flight):
                self.state = BbrState.CRUISE
        elif state is BbrState.REFILL and self._rounds.is_start:
            self._is_probing_samples = True
            self._start_up(sample)
        elif state is BbrState.UP and self._is_probed(sample):
            self._start_down(now)

    def _is_drained(self, in_flight: int) -> bool:
        model = self._model
        if in_flight > model.inflight_with_headroom:
            return False
        return in_flight <= model.product(1.0)

    def _is_time_to_probe(self, now: float) -> bool:
        if now - self._cycle_at > self._probe_wait_s:
            return True
        rounds = self._model.product(1.0) / self.packet_size / 2
        return self._rounds_since_probe >= min(rounds, _MAX_RENO_ROUNDS)

    def _is_probed(self, sample: AckSample) -> bool:
        """Whether more in flight has stopped to bring more bandwidth."""
        if self._is_held_by_high(sample):
            self._reset_full(sample.rate.bytes_per_s)
            return False
        return self._is_full_now

    def _is_held_by_high(self, sample: AckSample) -> bool:
        return sample.is_limited and self.window >= self._model.inflight_high

    def _start_down(self, now: float) -> None:
        self._model.reset_congestion()
        self._probe_up_every = INFINITE
        self._rounds_since_probe = self._rng.randrange(2)
        self._probe_wait_s = _PROBE_WAIT_S + self._rng.random()
        self._cycle_at = now
        self._ack_phase = _AckPhase.STOPPING
        self._rounds.restart(self._total_delivered)
        self.state = BbrState.DOWN

    def _start_refill(self) -> None:
        self._model.reset_lower_bounds()
        self._probe_up_rounds = self._probe_up_acked = 0
        self._ack_phase = _AckPhase.REFILLING
        self._rounds.restart(self._total_delivered)
        self.state = BbrState.REFILL

    def _start_up(self, sample: AckSample) -> None:
        self._ack_phase = _AckPhase.STARTING
        self._rounds.restart(self._total_delivered)
        self._reset_full(sample.rate.bytes_per_s)
        self._cycle_at = sample.now
        self.state = BbrState.UP
        self._raise_slope()

    def _adapt_long_term(self, sample: AckSample) -> None:
        """Raise the safe inflight when a probe found no losses (§5.3.3.6)."""
        model, rate = self._model, sample.rate
        if self._rounds.is_start:
            if self._ack_phase is _AckPhase.STARTING:
                self._ack_phase = _AckPhase.FEEDBACK
            elif self._ack_phase is _AckPhase.STOPPING:
                self._is_probing_samples = False
                self._ack_phase = _AckPhase.INIT
                if self.state in _PROBING_BANDWIDTH and not rate.is_app_limited:
                    model.filter.advance()
        if rate.lost > self._bearable(rate.in_flight):
            return
        if model.inflight_high == INFINITE:
            return
        model.inflight_high = max(model.inflight_high, rate.in_flight)
        if self.state is BbrState.UP:
            self._probe_upward(sample)

    def _probe_upward(self, sample: AckSample) -> None:
        """Raise the safe inflight, twice as fast each round (§5.3.3.6)."""
        if not self._is_held_by_high(sample):
            return
        self._probe_up_acked += sample.acked
        if self._probe_up_acked >= self._probe_up_every:
            steps = int(self._probe_up_acked // self._probe_up_every)
            self._probe_up_acked -= int(steps * self._probe_up_every)
            self._model.inflight_high += steps * self.packet_size
        if self._rounds.is_start:
            self._raise_slope()

    def _raise_slope(self) -> None:
        packets = 1 << self._probe_up_rounds
        self._probe_up_rounds = min(self._probe_up_rounds + 1, _MAX_PROBE_UP_ROUNDS)
        self._probe_up_every = max(self.window / packets, self.packet_size)

    def _on_inflight_too_high(self, inflight: float, now: float) -> None:
        """End the probe; `inflight` is what was too much, 0 when nobody knows."""
        self._is_probing_samples = False
        model = self._model
        if inflight:
            target = min(model.product(1.0), self.window)
            model.inflight_high = max(inflight * _BACKOFF, target * _BETA)
        if self.state is BbrState.UP:
            self._start_down(now)

    # --- probing for the round trip -------------------------------------------------

    def _check_probe_rtt(self, sample: AckSample) -> None:
        """Empty the queue for a moment when the minimum is old (§5.3.4)."""
        if (
            self.state is not BbrState.PROBE_RTT
            and self._model.probe_rtt_expired
            and not self._idle_restart
            and self._is_full
        ):
            self.state = BbrState.PROBE_RTT
            self._prior_window = self.window
            self._probe_rtt_done_at = None
            self._ack_phase = _AckPhase.STOPPING
            self._rounds.restart(self._total_delivered)
        if self.state is BbrState.PROBE_RTT:
            self._stay_in_probe_rtt(sample)
        self._idle_restart = False

    def _stay_in_probe_rtt(self, sample: AckSample) -> None:
        if self._probe_rtt_done_at is None:
            if sample.in_flight <= self._probe_rtt_window:
                self._probe_rtt_done_at = sample.now + _PROBE_RTT_S
                self._probe_rtt_round_done = False
                self._rounds.restart(self._total_delivered)
            return
        self._probe_rtt_round_done |= self._rounds.is_start
        if self._probe_rtt_round_done:
            self._leave_probe_rtt_when_done(sample.now)

    def _leave_probe_rtt_when_done(self, now: float) -> None:
        done_at = self._probe_rtt_done_at
        if done_at is None or now <= done_at:
            return
        self._model.probe_rtt_at = now
        self.window = max(self.window, self._prior_window)
        self._model.reset_lower_bounds()
        self._start_down(now)
        self.state = BbrState.CRUISE

    @property
    def _probe_rtt_window(self) -> float:
        model = self._model
        return max(model.product(_PROBE_RTT_WINDOW_GAIN), model.min_pipe)

    # --- window and rate ------------------------------------------------------------

    def _set_pacing_rate(self, gain: float) -> None:
        if gain >= 1.0 and self._model.is_short:
            gain = _SHORT_PACING_GAIN
        rate = gain * self._model.bandwidth * _PACING_MARGIN
        if rate and (self._is_full or rate > self.pacing_rate):
            self.pacing_rate = rate

    def _set_window(self, sample: AckSample) -> None:
        """Set the window to the model's inflight, within its bounds (§5.6.4)."""
        most = self._most_in_flight()
        window = float(self.window)
        # A window that is not used is not known to be right (RFC 9002 §7.8).
        growth = sample.acked if sample.is_limited else 0
        if self._is_full:
            window = min(window + growth, most)
        elif window < most or sample.rate.total_delivered < self._initial:
            window += growth
        least = self._model.min_pipe
        if self.state is BbrState.PROBE_RTT:
            window = min(window, self._probe_rtt_window)
        window = min(max(window, least), max(self._bound(), least))
        self.window = min(int(window), self._maximum)

    def _most_in_flight(self) -> float:
        """Gain times bandwidth and round trip, and what clumped ACKs need (§5.6.4)."""
        model = self._model
        quantum = min(
            max(self.pacing_rate * _QUANTUM_S, 2 * self.packet_size), _MAX_QUANTUM
        )
        most = model.product(_WINDOW_GAINS[self.state]) + model.aggregation
        most = max(most, _QUANTA * quantum, model.min_pipe)
        return most + 2 * self.packet_size if self.state is BbrState.UP else most

    def _bound(self) -> float:
        """The most that losses allow in this state (§5.6.4.7)."""
        model, state = self._model, self.state
        bound = INFINITE
        if state in (BbrState.CRUISE, BbrState.PROBE_RTT):
            bound = model.inflight_with_headroom
        elif state in _PROBING_BANDWIDTH:
            bound = model.inflight_high
        return min(bound, model.inflight_low)


def _inflight_before(sample: LossSample) -> float:
    """Return the inflight at which the losses became too many (§5.5.10.2)."""
    inflight = sample.in_flight - sample.size
    lost = sample.lost - sample.size
    prefix = (_LOSS_THRESHOLD * inflight - lost) / (1 - _LOSS_THRESHOLD)
    return inflight + max(prefix, 0.0)
