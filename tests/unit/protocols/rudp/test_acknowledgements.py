"""When an acknowledgement is owed, and what is remembered."""

import pytest

from opnode.protocols.rudp.acknowledgements import Acknowledgements
from opnode.protocols.rudp.frames import AckFrame, EcnCounts, parse_frames


def new_acks() -> Acknowledgements:
    return Acknowledgements(max_ranges=100, max_delay_s=0.005)


def test_a_lone_packet_waits_and_a_second_one_does_not():
    acks = new_acks()
    acks.extend(0, 1, 0)
    acks.on_received(eliciting=1, at_once=False, now=1.0)
    assert acks.is_pending
    assert not acks.is_due
    assert acks.deadline == 1.005
    acks.on_deadline(1.004)
    assert not acks.is_due
    acks.on_received(eliciting=1, at_once=False, now=1.001)
    assert acks.is_due
    acks.on_sent()
    assert (acks.is_pending, acks.is_due, acks.deadline) == (False, False, None)
    acks.on_deadline(9.0)
    assert not acks.is_due


def test_the_deadline_makes_it_due():
    acks = new_acks()
    acks.on_received(eliciting=1, at_once=False, now=1.0)
    acks.on_deadline(1.005)
    assert acks.is_due


def test_haste_makes_it_due_and_plain_acknowledgements_never_do():
    acks = new_acks()
    acks.on_received(eliciting=0, at_once=True, now=1.0)
    assert not acks.is_pending
    acks.on_received(eliciting=1, at_once=True, now=1.0)
    assert acks.is_due


def test_the_frame_tells_the_highest_ranges_first_and_the_delay():
    acks = new_acks()
    acks.extend(0, 3, 11)
    acks.extend(5, 9, 10)
    acks.on_received(eliciting=1, at_once=False, now=1.0)
    (frame,) = parse_frames(acks.encode(1.004))
    assert frame == AckFrame(
        pytest.approx(0.004, abs=2e-6), ((5, 9), (0, 3)), b"\x0a\x0b"
    )


def test_what_the_peer_knows_is_forgotten_but_never_everything():
    acks = new_acks()
    acks.extend(0, 3, 0)
    acks.extend(5, 9, 0)
    assert 4 not in acks.received
    acks.on_confirmed(9)
    assert 4 in acks.received
    assert acks.received.highest(9) == [(5, 9, 0)]
    acks.on_confirmed(3)
    assert 9 not in acks.received


def test_packets_with_an_ecn_codepoint_are_told_once_there_was_one():
    acks = new_acks()
    acks.extend(0, 6, 0)
    for codepoint, packets in ((2, 3), (1, 1), (3, 2)):
        acks.count_ecn(codepoint, packets)
    (frame,) = parse_frames(acks.encode(1.0))
    assert frame.ecn == EcnCounts(3, 1, 2)


def test_many_ranges_ask_for_confirmation():
    acks = new_acks()
    for number in range(0, 16, 2):
        acks.extend(number, number + 1, 0)
    assert not acks.wants_confirmation
    acks.extend(20, 21, 0)
    assert acks.wants_confirmation
