"""BBR on a modelled path: one rate, one round trip, what it does about losses."""

import random

import pytest

from opnode.protocols.rudp.congestion.bbr import Bbr, BbrState
from opnode.protocols.rudp.congestion.bbr_model import INFINITE
from opnode.protocols.rudp.congestion.controller import (
    AckSample,
    LossSample,
    RateSample,
    WindowLimits,
)

SIZE = 1200
RTT_S = 0.05
RATE = 2.5e6
PRODUCT = int(RATE * RTT_S)


class Path:
    """A pipe that delivers at most RATE; acknowledges ten times a round trip."""

    def __init__(self, *, rate: float = RATE, rtt_s: float = RTT_S) -> None:
        limits = WindowLimits(initial=32 * SIZE, maximum=1 << 24, packet_size=SIZE)
        self.bbr = Bbr(limits, rtt_s=0.1, rng=random.Random(1))
        self.rate, self.rtt_s = rate, rtt_s
        self.now = 0.0
        self.delivered = 0
        self.lost = 0
        self.history: list[tuple[float, int, int, int]] = [(0.0, 0, 0, 32 * SIZE)]
        self.is_app_limited = False

    def run(self, duration_s: float, *, loss: float = 0.0, until=None) -> None:
        end_at = self.now + duration_s
        while self.now < end_at and self.bbr.state is not until:
            self.step(loss)

    def step(self, loss: float = 0.0) -> AckSample:
        bbr, step_s = self.bbr, self.rtt_s / 10
        self.now += step_s
        in_flight = min(bbr.window, int(bbr.pacing_rate * self.rtt_s * 2))
        queue_s = max(in_flight / self.rate - self.rtt_s, 0.0)
        rtt_s = self.rtt_s + queue_s
        rate = min(in_flight / self.rtt_s, self.rate)
        acked = int(rate * step_s)
        sent = max(
            (entry for entry in self.history if entry[0] <= self.now - rtt_s),
            default=self.history[0],
        )
        lost = int(acked * loss)
        self.lost += lost
        if lost:
            bbr.on_lost(
                LossSample(self.now, lost, sent[0], sent[3], self.lost - sent[2], False)
            )
        self.delivered += acked - lost
        delivered = self.delivered - sent[1]
        sample = AckSample(
            now=self.now,
            acked=acked - lost,
            lost=lost,
            newest_sent_at=sent[0],
            largest_acked=0,
            next_number=1,
            latest_rtt_s=rtt_s,
            smoothed_rtt_s=rtt_s,
            min_rtt_s=self.rtt_s,
            in_flight=in_flight,
            is_limited=True,
            rate=RateSample(
                delivered,
                max(self.now - sent[0], 1e-9),
                self.delivered,
                sent[1],
                sent[3],
                self.lost - sent[2],
                self.is_app_limited,
            ),
        )
        bbr.on_ack(sample)
        self.history.append((self.now, self.delivered, self.lost, in_flight))
        return sample


def cruising() -> Path:
    path = Path()
    path.run(5.0, until=BbrState.CRUISE)
    assert path.bbr.state is BbrState.CRUISE
    return path


def test_startup_ends_when_the_pipe_is_full_and_the_queue_is_drained():
    path = Path()
    path.run(2.0, until=BbrState.DRAIN)
    assert path.bbr.state is BbrState.DRAIN
    path.run(2.0, until=BbrState.CRUISE)
    assert path.bbr.state is BbrState.CRUISE
    assert path.bbr.pacing_rate == pytest.approx(RATE, rel=0.05)


def test_cruising_takes_turns_with_probing_for_more():
    path = cruising()
    seen = set()
    for _ in range(2000):
        path.step()
        seen.add(path.bbr.state)
    assert seen >= {BbrState.DOWN, BbrState.CRUISE, BbrState.REFILL, BbrState.UP}


def test_more_bandwidth_is_found_within_a_few_probes():
    path = cruising()
    path.rate = 2 * RATE
    path.run(20.0)
    assert path.bbr.pacing_rate > 1.5 * RATE


def test_less_bandwidth_is_obeyed_within_two_cycles():
    path = cruising()
    path.rate = RATE / 2
    path.run(10.0)
    assert path.bbr.pacing_rate < 0.75 * RATE


def test_one_percent_of_loss_costs_little():
    path = cruising()
    path.run(10.0, loss=0.01)
    assert path.bbr.pacing_rate > 0.8 * RATE


def test_losses_above_two_percent_while_probing_bound_what_is_in_flight():
    path = cruising()
    path.run(10.0, until=BbrState.UP)
    path.run(2.0, loss=0.1, until=BbrState.DOWN)
    assert path.bbr.state is BbrState.DOWN
    assert path.bbr._model.inflight_high < 2 * PRODUCT


@pytest.mark.parametrize(
    ("rtt_s", "state"), [(0.0005, BbrState.UP), (RTT_S, BbrState.DOWN)]
)
def test_a_probe_bears_three_percent_of_the_window_where_paths_are_short(rtt_s, state):
    path = Path(rate=PRODUCT * 10 / rtt_s, rtt_s=rtt_s)
    path.run(10.0, until=BbrState.UP)
    few = LossSample(path.now, 4 * SIZE, path.now - rtt_s, 140 * SIZE, 4 * SIZE, False)
    path.bbr.on_lost(few)
    assert path.bbr.state is state


def test_a_short_round_is_judged_by_all_that_it_delivered():
    path = Path(rate=2 * PRODUCT / 0.0005, rtt_s=0.0005)
    path.run(5.0, until=BbrState.CRUISE)
    path.run(0.01, loss=0.025)
    assert path.bbr._model.inflight_low == INFINITE
    path.run(0.01, loss=0.1)
    assert path.bbr._model.inflight_low < INFINITE


def test_a_mark_while_probing_ends_the_probe():
    path = cruising()
    path.run(10.0, until=BbrState.UP)
    path.bbr.on_congestion_experienced(path.step())
    assert path.bbr.state is BbrState.DOWN
    assert path.bbr._model.inflight_high < float("inf")


def test_a_mark_in_startup_ends_it():
    path = Path()
    sample = path.step()
    path.bbr.on_congestion_experienced(sample)
    path.run(1.0, until=BbrState.CRUISE)
    assert path.bbr.state is not BbrState.STARTUP


def test_losses_of_a_whole_round_end_startup():
    path = Path()
    path.run(2.0, loss=0.2, until=BbrState.DRAIN)
    assert path.bbr.state is not BbrState.STARTUP
    assert path.bbr._model.inflight_high < float("inf")


def test_an_old_minimum_is_measured_anew_with_a_small_window():
    path = cruising()
    for _ in range(2000):
        path.step()
        if path.bbr.state is BbrState.PROBE_RTT:
            break
        path.rtt_s = RTT_S * 1.01
    assert path.bbr.state is BbrState.PROBE_RTT
    path.step()
    assert path.bbr.window <= PRODUCT
    path.run(2.0, until=BbrState.CRUISE)
    assert path.bbr.state is BbrState.CRUISE
    path.run(0.1)
    assert path.bbr.window > PRODUCT


def test_persistent_congestion_leaves_four_packets_and_the_next_answer_more():
    path = cruising()
    path.bbr.on_persistent_congestion(path.now)
    assert path.bbr.window == 4 * SIZE
    path.run(3.0)
    assert path.bbr.window > PRODUCT


def test_a_false_alarm_lifts_the_bounds():
    path = cruising()
    path.run(10.0, until=BbrState.UP)
    path.run(2.0, loss=0.1, until=BbrState.DOWN)
    path.bbr.on_spurious_loss(path.now)
    assert path.bbr._model.inflight_high == float("inf")


def test_sending_begins_anew_at_the_known_rate():
    path = cruising()
    path.run(10.0, until=BbrState.UP)
    path.bbr.on_sent(in_flight=0, now=path.now)
    assert path.bbr.pacing_rate == pytest.approx(RATE, rel=0.05)
    assert path.bbr.on_sent(in_flight=1, now=path.now) is None


def test_what_the_application_did_not_fill_does_not_lower_the_rate():
    path = cruising()
    path.is_app_limited = True
    path.rate = RATE / 10
    path.run(3.0)
    assert path.bbr.pacing_rate > 0.8 * RATE


def lone_message(path: Path, at: float, rtt_s: float) -> AckSample:
    """A message of 100 bytes and its acknowledgement, with nothing else under way."""
    rate = RateSample(100, rtt_s, path.delivered, path.delivered, 100, 0, True)
    sample = path.step()
    return sample._replace(
        now=at, acked=100, in_flight=0, is_limited=False, latest_rtt_s=rtt_s, rate=rate
    )


def test_lone_messages_measure_the_round_trip_and_nothing_else():
    path = cruising()
    sample = lone_message(path, path.now + 1.0, RTT_S / 2)
    path.run(10.0, until=BbrState.CRUISE)
    bbr = path.bbr
    before = bbr.state, bbr.window, bbr.pacing_rate
    for _ in range(1000):
        bbr.on_ack(sample)
    assert (bbr.state, bbr.window, bbr.pacing_rate) == before
    assert bbr._model.min_rtt_s == RTT_S / 2


def test_a_message_that_arrives_faster_than_all_before_raises_the_rate():
    path = cruising()
    sample = lone_message(path, path.now + 1.0, RTT_S)
    path.run(10.0, until=BbrState.CRUISE)
    fast = sample.rate._replace(delivered=100_000_000)
    path.bbr.on_ack(sample._replace(rate=fast))
    assert path.bbr.pacing_rate > 1.5 * RATE


def test_the_size_of_a_packet_may_change():
    bbr = Path().bbr
    bbr.packet_size = 9000
    assert bbr.packet_size == 9000
    bbr.on_persistent_congestion(0.0)
    assert bbr.window == 36_000
