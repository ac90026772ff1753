"""Pings under way: numbered, timed, limited, forgotten."""

import pytest

from opnode.core.errors import LocalProtocolError
from opnode.protocols.rudp.control_queue import PROBE_PING_ID, ControlQueue
from opnode.protocols.rudp.pings import Pings


def test_a_ping_s_acknowledgement_tells_the_round_trip_once():
    pings = Pings(ControlQueue(), maximum=4)
    number = pings.start(10.0)
    assert number != PROBE_PING_ID
    assert pings.on_acked(number, 10.5) == 0.5
    assert pings.on_acked(number, 11.0) is None


def test_nobody_waits_for_a_probe_s_acknowledgement():
    assert Pings(ControlQueue(), maximum=4).on_acked(PROBE_PING_ID, 1.0) is None


def test_no_more_pings_than_allowed_are_under_way():
    pings = Pings(ControlQueue(), maximum=2)
    first = pings.start(0.0)
    assert pings.has_room
    pings.start(0.0)
    assert not pings.has_room
    with pytest.raises(LocalProtocolError, match="2 pings"):
        pings.start(0.0)
    pings.on_acked(first, 1.0)
    assert pings.start(1.0) != first


def test_a_ping_that_was_forgotten_is_neither_sent_nor_told():
    controls = ControlQueue()
    pings = Pings(controls, maximum=1)
    number = pings.start(0.0)
    pings.forget(number)
    pings.forget(number)
    assert (len(controls), pings.has_room) == (0, True)
    assert pings.on_acked(number, 1.0) is None
