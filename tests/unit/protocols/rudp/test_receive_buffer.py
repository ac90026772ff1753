"""Ordering what arrives, and the limits on what does not fit in order."""

import random

import pytest

from opnode.protocols.rudp.receive_buffer import IslandLimit, ReceiveBuffer
from opnode.protocols.rudp.violation import CloseCode, PeerViolationError


def test_pieces_in_order_come_out_as_they_are():
    buffer = ReceiveBuffer(IslandLimit(10))
    buffer.insert(0, b"abc")
    buffer.insert(3, b"def")
    assert buffer.read(100) == b"abcdef"
    assert buffer.read(100) == b""
    assert buffer.read_offset == 6


def test_a_read_takes_no_more_than_asked_and_joins_whole_pieces():
    buffer = ReceiveBuffer(IslandLimit(10))
    text = random.Random(2).randbytes(9000)
    for offset in range(0, 9000, 3000):
        buffer.insert(offset, text[offset : offset + 3000])
    assert buffer.read(2000) == text[:2000]
    assert buffer.read(5000) == text[2000:6000]
    assert buffer.read(5000) == text[6000:]


def test_islands_wait_for_the_hole_to_close_and_join():
    buffer = ReceiveBuffer(IslandLimit(10))
    buffer.insert(6, b"gh")
    buffer.insert(2, b"cd")
    buffer.insert(4, b"ef")
    assert buffer.has_gaps
    assert buffer.end == 0
    buffer.insert(0, b"abc")
    assert not buffer.has_gaps
    assert buffer.read(100) == b"abcdefgh"


def test_islands_that_arrived_already_are_not_joined_twice():
    buffer = ReceiveBuffer(IslandLimit(10))
    buffer.insert(5, b"fg")
    buffer.insert(5, b"f")
    buffer.insert(3, b"de")
    buffer.insert(0, b"abcdefgh")
    assert not buffer.has_gaps
    buffer.insert(2, b"cdef")
    assert buffer.read(100) == b"abcdefgh"


def test_an_empty_piece_makes_no_island():
    buffer = ReceiveBuffer(IslandLimit(1))
    buffer.insert(5, b"")
    assert not buffer.has_gaps


def test_more_holes_than_allowed_are_a_violation():
    buffer = ReceiveBuffer(IslandLimit(2))
    buffer.insert(2, b"x")
    buffer.insert(4, b"x")
    buffer.insert(5, b"x")
    with pytest.raises(PeerViolationError) as caught:
        buffer.insert(8, b"x")
    assert caught.value.code is CloseCode.PROTOCOL_VIOLATION


def test_the_final_size_may_be_told_twice_but_not_changed():
    buffer = ReceiveBuffer(IslandLimit(2))
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
    buffer = ReceiveBuffer(IslandLimit(2))
    buffer.insert(3, b"x")
    with pytest.raises(PeerViolationError, match="at least 4"):
        buffer.set_final_size(3)


def test_discarding_returns_what_nobody_had_read():
    buffer = ReceiveBuffer(IslandLimit(2))
    buffer.insert(0, b"abc")
    buffer.insert(10, b"x")
    assert buffer.read(1) == b"a"
    assert buffer.discard() == 10
    assert buffer.discard() == 0
    assert buffer.read(9) == b""
    buffer.insert(3, b"late")
    assert buffer.read(9) == b""


def test_small_pieces_in_order_share_an_object_and_packets_keep_theirs():
    buffer = ReceiveBuffer(IslandLimit(2))
    for offset in range(5000):
        buffer.insert(offset, b"x")
    assert len(buffer.chunks) == 2
    packet = bytes(1152)
    for number in range(4):
        buffer.insert(5000 + 1152 * number, packet)
    assert buffer.chunks[-1] is packet
    assert type(buffer.read(3)) is bytes
    assert type(buffer.read(4093)) is bytes
    assert buffer.read(1 << 20) == b"x" * 904 + bytes(4 * 1152)


def test_a_piece_that_lasts_is_not_changed_by_what_comes_later():
    buffer = ReceiveBuffer(IslandLimit(2))
    buffer.insert(0, b"ab")
    first = buffer.read(2)
    buffer.insert(2, b"cd")
    assert (first, buffer.read(2)) == (b"ab", b"cd")


def test_long_islands_touch_instead_of_growing_without_end():
    text = random.Random(3).randbytes(300_000)
    for order in (1, -1):
        limit = IslandLimit(100)
        buffer = ReceiveBuffer(limit)
        for offset in range(1, 300_000, 1000)[::order]:
            buffer.insert(offset, text[offset : offset + 1100])
        assert 4 <= limit.count <= 10
        assert max(map(len, buffer._islands)) <= 1 << 16
        buffer.insert(0, text[:1])
        assert (limit.count, buffer.has_gaps) == (0, False)
        assert buffer.read(1 << 20) == text


def test_channels_share_the_number_of_holes():
    limit = IslandLimit(2)
    first, second = ReceiveBuffer(limit), ReceiveBuffer(limit)
    first.insert(2, b"x")
    second.insert(2, b"x")
    with pytest.raises(PeerViolationError, match="more than 2 holes"):
        second.insert(4, b"x")
    first.discard()
    second.insert(4, b"x")
    second.insert(3, b"x")
    first.insert(5, b"x")
    assert limit.count == 2
