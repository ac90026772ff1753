"""Round trips, losses and timeouts on packets described by hand."""

import pytest

from opnode.protocols.rudp.frames import AckFrame
from opnode.protocols.rudp.recovery import Recovery
from opnode.protocols.rudp.send_buffer import SendBuffer
from opnode.protocols.rudp.sent_run import SentPiece, SentRun
from opnode.protocols.rudp.violation import PeerViolationError


def new_recovery() -> Recovery:
    return Recovery(initial_rtt_s=0.1, min_pto_s=0.01)


def send(recovery: Recovery, first: int, count: int, *, now: float) -> SentRun:
    run = SentRun(first, first + count, size=100, sent_at=now)
    run.chunk = 10
    run.offset = first * 10
    run.buffer = SendBuffer(0, capacity=10_000, limit=10_000)
    recovery.on_sent(run)
    return run


def ack(recovery: Recovery, *ranges: tuple[int, int], now: float, sent: int = 1000):
    return recovery.on_ack(
        AckFrame(0.0, ranges, bytes(len(ranges))), next_number=sent, now=now
    )


def test_an_acknowledgement_in_the_middle_splits_a_run():
    recovery = new_recovery()
    run = send(recovery, 0, 10, now=1.0)
    result = ack(recovery, (3, 5), now=1.1)
    (part,) = result.acked
    assert (part.first, part.stop) == (3, 5)
    assert part.stream_pieces() == (SentPiece(run.buffer, 30, 50, fin=False),)
    assert [(lost.first, lost.stop) for lost in result.lost] == [(0, 2)]
    assert recovery.bytes_in_flight == 600
    result = ack(recovery, (0, 10), now=1.1)
    assert [(part.first, part.stop) for part in result.acked] == [(5, 10), (2, 3)]
    assert recovery.bytes_in_flight == 0


def test_packets_below_the_threshold_are_lost_by_time():
    recovery = new_recovery()
    send(recovery, 0, 1, now=1.0)
    send(recovery, 1, 2, now=1.01)
    assert ack(recovery, (2, 3), now=1.11).lost == []
    assert recovery.loss_deadline == pytest.approx(1.0 + 0.1 * 9 / 8)
    assert recovery.probe_deadline is None
    (lost,) = recovery.on_loss_timer(1.1126)
    assert (lost.first, lost.stop) == (0, 1)
    assert recovery.loss_deadline == pytest.approx(1.01 + 0.1 * 9 / 8)
    assert len(recovery.on_loss_timer(2.0)) == 1
    assert recovery.loss_deadline is None
    assert recovery.packets_lost == 2


def test_an_acknowledgement_that_was_repeated_later_measures_no_round_trip():
    recovery = new_recovery()
    send(recovery, 0, 2, now=1.0)
    late = AckFrame(0.4, ((0, 1),), bytes(1))
    result = recovery.on_ack(late, next_number=2, now=1.5)
    assert len(result.acked) == 1
    assert result.latest_rtt_s is None
    assert recovery.rtt.latest is None
    held = AckFrame(0.02, ((0, 2),), bytes(1))
    result = recovery.on_ack(held, next_number=2, now=1.51)
    assert result.latest_rtt_s == pytest.approx(0.51)


def test_an_acknowledgement_of_nothing_known_changes_nothing():
    recovery = new_recovery()
    result = ack(recovery, (5, 9), now=1.0)
    assert result.acked == result.lost == []
    assert recovery.rtt.latest is None
    send(recovery, 20, 1, now=1.0)
    assert ack(recovery, (5, 9), now=1.5).acked == []


def test_an_acknowledgement_of_the_future_is_a_violation():
    recovery = new_recovery()
    with pytest.raises(PeerViolationError, match="packet 8"):
        ack(recovery, (5, 9), now=1.0, sent=8)


def test_a_round_trip_is_measured_only_by_the_newest_packet():
    recovery = new_recovery()
    send(recovery, 0, 1, now=1.0)
    send(recovery, 1, 1, now=1.2)
    ack(recovery, (1, 2), now=1.3)
    assert recovery.rtt.latest == pytest.approx(0.1)
    ack(recovery, (0, 2), now=1.4)
    assert recovery.rtt.latest == pytest.approx(0.1)


def test_the_probe_timeout_doubles_and_an_acknowledgement_resets_it():
    recovery = new_recovery()
    assert recovery.on_probe_timer() is None
    recovery = new_recovery()
    run = send(recovery, 0, 1, now=1.0)
    assert recovery.probe_deadline == pytest.approx(1.0 + 0.305)
    assert recovery.on_probe_timer() is run
    assert recovery.probe_deadline == pytest.approx(1.0 + 0.61)
    recovery.on_path_changed(0.0, is_other_host=False)
    assert recovery.probe_deadline == pytest.approx(1.0 + 0.305)
    recovery.on_probe_timer()
    send(recovery, 1, 1, now=2.0)
    ack(recovery, (0, 1), now=2.0)
    assert recovery.probe_deadline == pytest.approx(2.0 + recovery.probe_timeout_s)
    assert recovery.probe_timeouts == 2


def test_the_probe_timeout_has_a_floor():
    recovery = new_recovery()
    recovery.rtt.add(0.0001, 0.0)
    assert recovery.probe_timeout_s == 0.01


def test_one_flight_lost_at_once_is_not_persistent_congestion():
    recovery = new_recovery()
    send(recovery, 0, 1, now=1.0)
    ack(recovery, (0, 1), now=1.1)
    send(recovery, 1, 20, now=2.0)
    send(recovery, 21, 1, now=9.0)
    result = ack(recovery, (21, 22), now=9.1)
    assert len(result.lost) == 1
    assert not result.is_persistent


def test_losses_with_an_arrival_between_are_not_persistent_congestion():
    recovery = new_recovery()
    send(recovery, 0, 1, now=1.0)
    ack(recovery, (0, 1), now=1.1)
    for number in range(1, 8):
        send(recovery, number, 1, now=1.1 + 0.3 * number)
    assert not ack(recovery, (7, 8), (4, 5), now=3.3).is_persistent


def test_a_long_stretch_without_an_arrival_is_persistent_congestion():
    recovery = new_recovery()
    for number in range(1, 5):
        send(recovery, number, 1, now=1.0 + number)
    assert not ack(recovery, (4, 5), now=5.1).is_persistent
    for number in range(5, 12):
        send(recovery, number, 1, now=1.0 + number)
    assert ack(recovery, (11, 12), now=12.1).is_persistent


def test_patience_with_reordering_has_a_limit_and_ends_with_the_path():
    recovery = new_recovery()
    number = 0
    for _ in range(12):
        send(recovery, number, 300, now=1.0)
        ack(recovery, (number + 299, number + 300), now=1.1, sent=10**6)
        ack(recovery, (number, number + 300), now=1.1, sent=10**6)
        number += 300
    assert recovery._reordering_steps == 6
    recovery.on_path_changed(0.0, is_other_host=True)
    assert recovery._reordering_steps == 0
    assert recovery.rtt.latest is None


def test_a_congestion_event_whose_losses_all_arrive_is_found_out_to_be_none():
    recovery = new_recovery()
    send(recovery, 0, 20, now=1.0)
    assert len(ack(recovery, (10, 20), now=1.1).lost) == 1
    assert not ack(recovery, (10, 20), (4, 8), now=1.1).is_spurious
    assert not ack(recovery, (4, 20), (0, 2), now=1.1).is_spurious
    result = ack(recovery, (0, 20), now=1.1)
    assert result.is_spurious
    assert result.acked == []
    assert recovery.spurious_losses == 10
    assert not ack(recovery, (0, 20), now=1.1).is_spurious


def test_late_arrivals_of_an_older_event_do_not_excuse_a_newer_one():
    recovery = new_recovery()
    send(recovery, 0, 10, now=1.0)
    ack(recovery, (9, 10), now=1.1)
    send(recovery, 10, 10, now=1.2)
    assert ack(recovery, (19, 20), now=1.3).lost
    assert not ack(recovery, (19, 20), (0, 10), now=1.3).is_spurious


def test_losses_are_described_with_what_was_in_flight_and_lost_since():
    recovery = new_recovery()
    send(recovery, 0, 10, now=1.0)
    send(recovery, 10, 10, now=1.01)
    lost = ack(recovery, (19, 20), now=1.1).lost
    samples = recovery.loss_samples(lost, 1.1)
    assert [(s.size, s.in_flight, s.lost) for s in samples] == [
        (1000, 1000, 1700),
        (700, 2000, 1700),
    ]


def test_an_acknowledgement_sums_up_bytes_marks_and_rate():
    recovery = new_recovery()
    recovery.is_marking = True
    send(recovery, 0, 10, now=1.0)
    recovery.is_marking = False
    send(recovery, 10, 10, now=1.05)
    result = ack(recovery, (5, 15), now=1.1)
    assert (result.acked_bytes, result.acked_marked, result.is_newest) == (
        1000,
        5,
        True,
    )
    assert result.rate is not None
    assert result.rate.delivered == 1000
    assert result.latest_rtt_s == pytest.approx(0.05)
    assert not ack(recovery, (5, 15), now=1.2).is_newest


def test_what_left_before_a_move_says_nothing_about_the_new_path():
    recovery = new_recovery()
    send(recovery, 0, 1, now=1.0)
    recovery.on_path_changed(1.5, is_other_host=True)
    ack(recovery, (0, 1), now=1.6)
    assert recovery.rtt.latest is None
    send(recovery, 1, 1, now=2.0)
    ack(recovery, (1, 2), now=2.25)
    assert recovery.rtt.latest == pytest.approx(0.25)
