"""Ordering what arrives, and the limits on what does not fit in order."""

import pytest

from opnode.protocols.rudp.packet import CloseCode, PeerViolationError
from opnode.protocols.rudp.receive_buffer import ReceiveBuffer


def test_pieces_in_order_come_out_as_they_are():
    buffer = ReceiveBuffer(max_gaps=10)
    buffer.insert(0, b"abc")
    buffer.insert(3, b"def")
    assert buffer.read(100) == b"abcdef"
    assert buffer.read(100) == b""
    assert buffer.read_offset == 6


def test_a_read_takes_no_more_than_asked_and_joins_whole_pieces():
    buffer = ReceiveBuffer(max_gaps=10)
    for offset in range(0, 9, 3):
        buffer.insert(offset, b"abcdefghi"[offset : offset + 3])
    assert buffer.read(2) == b"ab"
    assert buffer.read(5) == b"cdef"
    assert buffer.read(5) == b"ghi"


def test_islands_wait_for_the_hole_to_close_and_join():
    buffer = ReceiveBuffer(max_gaps=10)
    buffer.insert(6, b"gh")
    buffer.insert(2, b"cd")
    buffer.insert(4, b"ef")
    assert buffer.has_gaps
    assert buffer.end == 0
    buffer.insert(0, b"abc")
    assert not buffer.has_gaps
    assert buffer.read(100) == b"abcdefgh"


def test_islands_that_arrived_already_are_not_joined_twice():
    buffer = ReceiveBuffer(max_gaps=10)
    buffer.insert(5, b"fg")
    buffer.insert(5, b"f")
    buffer.insert(3, b"de")
    buffer.insert(0, b"abcdefgh")
    assert not buffer.has_gaps
    buffer.insert(2, b"cdef")
    assert buffer.read(100) == b"abcdefgh"


def test_an_empty_piece_makes_no_island():
    buffer = ReceiveBuffer(max_gaps=1)
    buffer.insert(5, b"")
    assert not buffer.has_gaps


def test_more_holes_than_allowed_are_a_violation():
    buffer = ReceiveBuffer(max_gaps=2)
    buffer.insert(2, b"x")
    buffer.insert(4, b"x")
    buffer.insert(5, b"x")
    with pytest.raises(PeerViolationError) as caught:
        buffer.insert(8, b"x")
    assert caught.value.code is CloseCode.PROTOCOL_VIOLATION


def test_the_final_size_may_be_told_twice_but_not_changed():
    buffer = ReceiveBuffer(max_gaps=2)
    buffer.insert(0, b"abc")
    buffer.set_final_size(5)
    buffer.set_final_size(5)
    assert not buffer.is_complete
    with pytest.raises(PeerViolationError, match=r"6.*before it was 5"):
        buffer.set_final_size(6)
    with pytest.raises(PeerViolationError, match="final size 5"):
        buffer.insert(4, b"ef")
    buffer.insert(3, b"de")
    assert buffer.is_complete
    assert not buffer.is_at_end
    assert buffer.read(9) == b"abcde"
    assert buffer.is_at_end


def test_a_final_size_below_what_arrived_is_a_violation():
    buffer = ReceiveBuffer(max_gaps=2)
    buffer.insert(3, b"x")
    with pytest.raises(PeerViolationError, match="at least 4"):
        buffer.set_final_size(3)


def test_discarding_returns_what_nobody_had_read():
    buffer = ReceiveBuffer(max_gaps=2)
    buffer.insert(0, b"abc")
    buffer.insert(10, b"x")
    assert buffer.read(1) == b"a"
    assert buffer.discard() == 10
    assert buffer.discard() == 0
    assert buffer.read(9) == b""
    buffer.insert(3, b"late")
    assert buffer.read(9) == b""
