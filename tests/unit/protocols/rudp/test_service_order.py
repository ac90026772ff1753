"""Whose turn it is."""

from opnode.protocols.rudp.channel import Channel
from opnode.protocols.rudp.receive_buffer import IslandLimit
from opnode.protocols.rudp.service_order import URGENCIES, ServiceOrder


def new_channel(channel_id, urgency=3):
    channel = Channel(
        channel_id, window=1000, send_buffer=1000, islands=IslandLimit(10)
    )
    channel.urgency = urgency
    return channel


def test_an_empty_order_has_nobody():
    order = ServiceOrder()
    assert not order.occupied
    assert order.top == URGENCIES
    assert order.first() is None
    assert order.only is None
    order.discard(new_channel(0))


def test_the_most_urgent_goes_first_whenever_it_came():
    order = ServiceOrder()
    low, middle, high = new_channel(0, 7), new_channel(2, 3), new_channel(4, 0)
    for channel in (low, middle, high):
        order.add(channel)
    found = []
    while (channel := order.first()) is not None:
        found.append(channel)
        order.discard(channel)
    assert found == [high, middle, low]
    assert not order.occupied


def test_those_of_one_urgency_take_turns():
    order = ServiceOrder()
    channels = [new_channel(number) for number in range(0, 6, 2)]
    for channel in channels:
        order.add(channel)
        order.add(channel)
    found = []
    for _ in range(6):
        channel = order.first()
        found.append(channel)
        order.move_to_back(channel)
    assert found == channels * 2


def test_only_one_is_alone_whatever_its_urgency():
    order = ServiceOrder()
    one, two, three = new_channel(0, 5), new_channel(2, 5), new_channel(4, 6)
    order.add(one)
    assert order.only is one
    order.add(two)
    assert order.only is None
    order.discard(two)
    order.add(three)
    assert order.only is None
    order.discard(one)
    assert order.only is three
