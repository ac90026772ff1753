"""Events in order, with limits."""

import pytest

from opnode.protocols.rudp.event_queue import EventQueue
from opnode.protocols.rudp.events import (
    ChannelOpened,
    ChannelReadable,
    Closed,
    DatagramReceived,
    DatagramRoom,
    Side,
)
from opnode.protocols.rudp.violation import PeerViolationError

CLOSED = Closed(0, "", Side.LOCAL)


def test_events_come_in_order_and_then_none():
    queue = EventQueue(max_events=10, max_datagrams=2)
    queue.add(ChannelOpened(1))
    queue.add_datagram(b"a")
    assert queue.take() == ChannelOpened(1)
    assert queue.take() == DatagramReceived(b"a")
    assert queue.take() is None


def test_datagrams_beyond_the_limit_are_dropped_until_some_are_taken():
    queue = EventQueue(max_events=10, max_datagrams=2)
    for text in (b"a", b"b", b"c"):
        queue.add_datagram(text)
    assert queue.dropped == 1
    queue.take()
    queue.add_datagram(b"d")
    assert [queue.take(), queue.take()] == [
        DatagramReceived(b"b"),
        DatagramReceived(b"d"),
    ]


def test_more_events_than_are_kept_are_the_peer_s_fault():
    queue = EventQueue(max_events=2, max_datagrams=2)
    queue.add(ChannelOpened(1))
    queue.add(ChannelOpened(3))
    with pytest.raises(PeerViolationError, match="2 events"):
        queue.add(ChannelOpened(5))


def test_nothing_follows_the_last_event():
    queue = EventQueue(max_events=1, max_datagrams=2)
    queue.add(ChannelOpened(1))
    queue.close(CLOSED)
    queue.add(ChannelOpened(3))
    queue.add_datagram(b"x")
    assert [queue.take(), queue.take(), queue.take()] == [
        ChannelOpened(1),
        CLOSED,
        None,
    ]


def test_the_length_is_how_many_events_wait():
    queue = EventQueue(max_events=10, max_datagrams=10)
    assert len(queue) == 0
    queue.add(ChannelOpened(1))
    assert len(queue) == 1
    queue.take()
    assert len(queue) == 0


def test_a_queue_that_is_never_empty_keeps_its_order_and_its_size():
    queue = EventQueue(max_events=1000, max_datagrams=10)
    taken = []
    queue.add(ChannelReadable(0))
    for number in range(1, 2000):
        queue.add(ChannelReadable(number))
        event = queue.take()
        assert isinstance(event, ChannelReadable)
        taken.append(event.channel_id)
        assert len(queue) == 1
        assert len(queue._events) < 600
    assert taken == list(range(1999))


def test_what_no_frame_caused_is_told_although_the_peer_filled_the_queue():
    queue = EventQueue(max_events=1, max_datagrams=2)
    queue.add(ChannelOpened(1))
    queue.add_own(DatagramRoom())
    assert [queue.take(), queue.take()] == [ChannelOpened(1), DatagramRoom()]
    queue.close(CLOSED)
    queue.add_own(DatagramRoom())
    assert [queue.take(), queue.take()] == [CLOSED, None]
