"""The two halves of a channel and their credit."""

import pytest

from opnode.protocols.rudp.channel import (
    Channel,
    ReceiveState,
    SendNeed,
    SendState,
)
from opnode.protocols.rudp.frames import INITIAL_CHANNEL_CREDIT
from opnode.protocols.rudp.receive_buffer import IslandLimit
from opnode.protocols.rudp.violation import CloseCode, PeerViolationError


def new_channel() -> Channel:
    return Channel(0, window=1 << 20, send_buffer=10_000, islands=IslandLimit(10))


def test_data_within_the_credit_is_measured_against_what_came_before():
    channel = new_channel()
    assert channel.check_data(10) == 10
    channel.incoming.insert(0, bytes(10))
    assert channel.check_data(7) == 0
    assert channel.check_data(12) == 2
    with pytest.raises(PeerViolationError) as caught:
        channel.check_data(INITIAL_CHANNEL_CREDIT + 1)
    assert caught.value.code is CloseCode.FLOW_CONTROL


def test_new_bytes_need_credit_and_lost_ones_only_a_turn():
    channel = new_channel()
    assert channel.need is SendNeed.NOTHING
    channel.outgoing.write(memoryview(b"abc"))
    assert channel.need is SendNeed.CREDIT
    channel.outgoing.take(0, 3)
    assert channel.need is SendNeed.NOTHING
    channel.outgoing.on_lost(0, 1)
    assert channel.need is SendNeed.TURN
    channel.send_state = SendState.RESET
    assert channel.need is SendNeed.NOTHING


def test_an_unannounced_channel_and_a_bare_end_mark_need_a_turn():
    channel = new_channel()
    channel.is_announced = False
    assert channel.need is SendNeed.TURN
    channel.is_announced = True
    channel.outgoing.finish()
    assert channel.need is SendNeed.TURN


def test_a_channel_is_over_when_both_halves_are():
    channel = new_channel()
    channel.send_state = SendState.OVER
    assert not channel.is_over
    channel.receive_state = ReceiveState.OVER
    assert channel.is_over
