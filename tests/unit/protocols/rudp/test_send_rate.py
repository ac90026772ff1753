"""Window, pacing and marks brought together."""

import random

import pytest

from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.congestion import Bbr, CongestionAlgorithm, Cubic
from opnode.protocols.rudp.control_queue import ControlQueue
from opnode.protocols.rudp.ecn import EcnState
from opnode.protocols.rudp.frames import (
    AckFrame,
    AckFrequencyFrame,
    EcnCounts,
    FrameType,
    parse_frames,
)
from opnode.protocols.rudp.recovery import Recovery
from opnode.protocols.rudp.send_rate import SendRate
from opnode.protocols.rudp.sent_run import SentRun

SIZE = 1200


class Sender:
    """A rate and its recovery; sends runs and acknowledges them."""

    def __init__(
        self, algorithm: CongestionAlgorithm = CongestionAlgorithm.CUBIC
    ) -> None:
        self.recovery = Recovery(initial_rtt_s=0.1, min_pto_s=0.01)
        config = RudpConfig(congestion=algorithm)
        self.controls = ControlQueue()
        self.rate = SendRate(config, self.recovery, self.controls, random.Random(1))
        self.next_number = 0

    def send(self, packets: int, *, now: float) -> None:
        first = self.next_number
        self.next_number += packets
        self.recovery.on_sent(SentRun(first, self.next_number, size=SIZE, sent_at=now))
        self.rate.on_sent(packets * SIZE, packets=packets, now=now)

    def ack(
        self,
        *ranges: tuple[int, int],
        now: float,
        counts: EcnCounts | None = None,
    ) -> None:
        frame = AckFrame(0.0, ranges, bytes(len(ranges)), counts)
        result = self.recovery.on_ack(frame, next_number=self.next_number, now=now)
        self.rate.on_lost(result.lost, now)
        self.rate.on_ack(result, frame.ecn, self.next_number, now)

    @property
    def window(self) -> int:
        return self.rate.controller.window


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [(CongestionAlgorithm.CUBIC, Cubic), (CongestionAlgorithm.BBR, Bbr)],
)
def test_the_configuration_chooses_the_controller(algorithm, kind):
    sender = Sender(algorithm)
    assert isinstance(sender.rate.controller, kind)
    assert sender.window == 32 * SIZE


def test_the_first_window_may_leave_at_once_and_then_pacing_holds():
    sender = Sender()
    allowed, free, _ = sender.rate.allowance(1.0, 54, SIZE)
    assert (allowed, free) == (32, 32)
    sender.send(32, now=1.0)
    assert sender.rate.allowance(1.0, 54, SIZE)[:2] == (0, 0)
    sender.rate.is_limited = True
    sender.ack((0, 32), now=1.1)
    allowed, free, enough = sender.rate.allowance(1.1, 54, SIZE)
    assert allowed < free == 64
    assert enough == 2
    sender.rate.wait_for(enough, 1.1)
    assert sender.rate.next_send_at is not None
    assert 1.1 < sender.rate.next_send_at < 1.11
    sender.rate.on_deadline(sender.rate.next_send_at)
    assert sender.rate.next_send_at is None


def test_a_round_trip_shorter_than_a_timer_is_not_paced():
    sender = Sender()
    sender.send(32, now=1.0)
    sender.rate.is_limited = True
    sender.ack((0, 32), now=1.0003)
    assert sender.rate.allowance(1.0003, 54, SIZE) == (64, 64, 16)


def test_a_lone_packet_does_not_wait_for_the_pace():
    sender = Sender()
    for round_trip in range(200):
        now = 1.0 + round_trip * 0.1
        assert sender.rate.allowance(now, 54, SIZE)[0] >= 1
        sender.send(1, now=now)
        sender.rate.pacer.on_sent(100 * SIZE)
        sender.ack((round_trip, round_trip + 1), now=now + 0.1)


def test_a_mark_cuts_the_window():
    sender = Sender()
    sender.send(10, now=1.0)
    assert sender.rate.ecn.state is EcnState.UNKNOWN
    sender.ack((0, 10), now=1.1, counts=EcnCounts(10, 0, 0))
    assert sender.rate.ecn.state is EcnState.CAPABLE
    before = sender.window
    sender.send(10, now=1.2)
    sender.ack((0, 20), now=1.3, counts=EcnCounts(19, 0, 1))
    assert sender.window == pytest.approx(0.7 * before, abs=1)


def test_a_path_that_swallows_the_first_packets_gets_unmarked_ones():
    sender = Sender()
    sender.send(1, now=1.0)
    sender.rate.on_probe_timeout()
    assert sender.rate.ecn.codepoint == 0
    assert not sender.recovery.is_marking


def test_losses_that_turn_up_give_the_window_back():
    sender = Sender()
    sender.send(32, now=1.0)
    sender.ack((20, 32), now=1.1)
    assert sender.window < 32 * SIZE
    sender.ack((0, 32), now=1.11)
    assert sender.window >= 32 * SIZE


def test_losses_of_another_path_say_nothing_about_this_one():
    sender = Sender()
    sender.send(32, now=1.0)
    sender.rate.restart(1.05, SIZE)
    sender.ack((20, 32), now=1.1)
    assert sender.window == 32 * SIZE


def test_persistent_congestion_starts_over():
    sender = Sender()
    sender.send(1, now=1.0)
    sender.ack((0, 1), now=1.1)
    for place in range(10):
        sender.send(1, now=1.2 + place)
    sender.ack((10, 11), now=11.0)
    assert sender.window == 2 * SIZE


def test_a_full_window_asks_for_fewer_acknowledgements():
    sender = Sender()
    sender.controls.add(FrameType.ACK_FREQUENCY)
    assert sender.controls.take(100, lambda _: b"other") == ([], [])
    sender.rate.is_limited = True
    sender.rate.controller.window = 10_000 * SIZE
    sender.send(100, now=1.0)
    sender.ack((0, 100), now=1.2)
    (frame,), keys = sender.controls.take(100, lambda _: b"other")
    assert parse_frames(frame) == [AckFrequencyFrame(0, 256, pytest.approx(0.025))]
    assert keys == [(FrameType.ACK_FREQUENCY, 0)]
    assert sender.recovery.rtt.max_ack_delay_s == pytest.approx(0.025)


def test_a_larger_packet_is_heard_of_with_the_next_burst():
    sender = Sender()
    sender.rate.allowance(1.0, 54, 1400)
    assert sender.rate.controller.packet_size == 1400


@pytest.mark.parametrize("algorithm", list(CongestionAlgorithm))
def test_two_packets_may_leave_however_large_they_have_become(algorithm):
    sender = Sender(algorithm)
    sender.rate.controller.window = 2 * SIZE
    size = 65_507
    _, free, _ = sender.rate.allowance(1.0, 1, size)
    assert free == 2
