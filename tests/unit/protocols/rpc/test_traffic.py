"""`traffic`: every datagram has a cause, and idle causes take no line."""

from typing import get_args

from opnode.protocols.rpc.messages import DialBack, FindNode, Ping, Request
from opnode.protocols.rpc.traffic import Traffic, TrafficLine


def test_every_request_has_a_tally_on_both_sides():
    traffic = Traffic()
    assert set(traffic.asked) == set(traffic.served) == set(get_args(Request))


def test_idle_causes_take_no_line():
    assert Traffic().lines() == ()


def test_lines_name_messages_as_the_specification_does():
    traffic = Traffic()
    traffic.asked[FindNode].datagrams_out = 2
    traffic.asked[FindNode].bytes_out = 200
    traffic.served[DialBack].datagrams_in = 1
    traffic.served[DialBack].bytes_in = 80
    traffic.served[Ping].datagrams_in = 1
    traffic.other.datagrams_in = 1
    lines = traffic.lines()
    assert [(line.message, line.side) for line in lines] == [
        ("FIND_NODE", "asked"),
        ("PING", "served"),
        ("DIAL_BACK", "served"),
        ("OTHER", "served"),
    ]
    assert lines[0] == TrafficLine(
        message="FIND_NODE",
        side="asked",
        datagrams_in=0,
        bytes_in=0,
        datagrams_out=2,
        bytes_out=200,
    )
