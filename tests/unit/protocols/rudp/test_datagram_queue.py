"""Unreliable messages that wait to leave."""

import pytest

from opnode.core.errors import LocalProtocolError
from opnode.protocols.rudp.datagram_queue import DatagramQueue
from opnode.protocols.rudp.event_queue import EventQueue
from opnode.protocols.rudp.events import DatagramRoom
from opnode.protocols.rudp.frames import MAX_DATAGRAM_SIZE


def new_queue():
    events = EventQueue(max_events=9, max_datagrams=9)
    return DatagramQueue(events, 4), events


def test_messages_leave_in_the_order_in_which_they_came():
    queue, events = new_queue()
    assert queue.first_size == 0
    assert queue.put(b"one")
    assert queue.put(bytearray(b"three"))
    assert len(queue) == 2
    assert queue.first_size == 3
    assert [queue.take(), queue.take()] == [b"one", b"three"]
    assert events.take() is None


def test_whoever_found_it_full_is_told_once_when_it_is_half_empty():
    queue, events = new_queue()
    assert [queue.put(b"x") for _ in range(6)] == [True] * 4 + [False] * 2
    queue.take()
    assert events.take() is None
    queue.take()
    assert events.take() == DatagramRoom()
    queue.take()
    assert events.take() is None


def test_a_message_longer_than_a_packet_is_refused():
    queue, _ = new_queue()
    assert queue.put(bytes(MAX_DATAGRAM_SIZE))
    with pytest.raises(LocalProtocolError, match=f"has {MAX_DATAGRAM_SIZE + 1}"):
        queue.put(bytes(MAX_DATAGRAM_SIZE + 1))
