"""Runs of packets, whole and cut."""

from opnode.protocols.rudp.send_buffer import SendBuffer
from opnode.protocols.rudp.sent_run import SendState, SentPiece, SentRun


def new_run() -> SentRun:
    run = SentRun(4, 14, size=100, sent_at=1.0)
    run.buffer = SendBuffer(0, capacity=1000, limit=1000)
    run.offset, run.chunk = 40, 10
    run.state = SendState(1, 2.0, 3.0, 4, 5, is_app_limited=True)
    run.is_marked = True
    return run


def test_the_first_pieces_of_a_run_can_be_asked_for():
    run = new_run()
    assert run.stream_pieces(2) == (SentPiece(run.buffer, 40, 60, fin=False),)
    assert run.stream_pieces(99) == run.stream_pieces()


def test_both_parts_of_a_cut_run_know_their_bytes_and_how_they_left():
    left = new_run()
    right = left.split(7)
    assert (left.first, left.stop, right.first, right.stop) == (4, 7, 7, 14)
    assert left.stream_pieces() == (SentPiece(left.buffer, 40, 70, fin=False),)
    assert right.stream_pieces() == (SentPiece(left.buffer, 70, 140, fin=False),)
    assert (left.total_size, right.total_size) == (300, 700)
    assert (right.state, right.is_marked) == (left.state, True)
