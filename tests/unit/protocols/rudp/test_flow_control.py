"""How channels share the memory of a connection."""

import pytest

from opnode.protocols.rudp.channel import Channel
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.control_queue import ControlQueue
from opnode.protocols.rudp.flow_control import FlowControl
from opnode.protocols.rudp.frames import (
    INITIAL_CHANNEL_CREDIT,
    INITIAL_CONNECTION_CREDIT,
    FrameType,
)
from opnode.protocols.rudp.receive_buffer import IslandLimit
from opnode.protocols.rudp.violation import CloseCode, PeerViolationError

CONFIG = RudpConfig()


class Desk:
    """A connection's windows and the channels that use them."""

    def __init__(self) -> None:
        self.controls = ControlQueue()
        self.flow = FlowControl(CONFIG, self.controls)
        self.islands = IslandLimit(10)
        self.count = 0

    def channel(self) -> Channel:
        self.count += 1
        return Channel(
            2 * self.count,
            window=CONFIG.channel_window,
            send_buffer=1000,
            islands=self.islands,
        )

    def read_fast(self, channel: Channel) -> None:
        """Let a channel carry 100 MB as fast as its window allows."""
        done = 0
        while done < 100_000_000:
            size = channel.credit.limit - channel.credit.consumed
            self.flow.account(channel, channel.credit.limit)
            channel.incoming.highest = channel.credit.limit
            self.flow.consume(channel, size)
            channel.credit.raise_limit()
            self.flow.credit.raise_limit()
            done += size


def test_one_fast_channel_gets_the_largest_window_and_the_connection_follows():
    desk = Desk()
    channel = desk.channel()
    desk.read_fast(channel)
    assert channel.credit.window == CONFIG.channel_window
    assert desk.flow.credit.window == CONFIG.connection_window


def test_channels_that_were_fast_and_stop_reading_leave_a_quarter_to_others():
    desk = Desk()
    channels = [desk.channel() for _ in range(10)]
    for channel in channels:
        desk.read_fast(channel)
    stuck = sum(channel.credit.window for channel in channels)
    first = len(channels) * INITIAL_CHANNEL_CREDIT
    assert stuck - first <= CONFIG.connection_window * 3 // 4
    # Each got something, the later ones less.
    assert all(channel.credit.window > INITIAL_CHANNEL_CREDIT for channel in channels)


def test_what_a_channel_had_grown_is_free_when_it_is_read_no_more():
    desk = Desk()
    one, two = desk.channel(), desk.channel()
    desk.read_fast(one)
    desk.flow.release(one)
    desk.flow.release(one)
    desk.read_fast(two)
    assert two.credit.window == CONFIG.channel_window


def test_a_channel_that_nobody_reads_promises_its_first_window_only():
    channel = Desk().channel()
    assert channel.credit.limit == channel.credit.window == INITIAL_CHANNEL_CREDIT


def test_more_than_the_connection_s_credit_is_a_violation():
    desk = Desk()
    for _ in range(INITIAL_CONNECTION_CREDIT // INITIAL_CHANNEL_CREDIT):
        desk.flow.account(desk.channel(), INITIAL_CHANNEL_CREDIT)
    with pytest.raises(PeerViolationError) as caught:
        desk.flow.account(desk.channel(), 1)
    assert caught.value.code is CloseCode.FLOW_CONTROL


def test_channels_that_nobody_reads_take_half_of_the_window_at_most():
    desk = Desk()
    for _ in range(20):
        channel = desk.channel()
        desk.flow.account(channel, INITIAL_CHANNEL_CREDIT)
        desk.flow.credit.raise_limit()
    unread = 20 * INITIAL_CHANNEL_CREDIT
    assert (FrameType.CONNECTION_CREDIT, 0) in desk.controls.waiting
    assert desk.flow.credit.limit >= 2 * unread * 7 // 8
    # A slow reader of one more makes the window no smaller than that.
    desk.flow.now = 1e6
    desk.flow.discard(INITIAL_CHANNEL_CREDIT)
    assert desk.flow.credit.window >= 2 * (unread - INITIAL_CHANNEL_CREDIT)


def test_unread_bytes_never_widen_the_window_beyond_its_limit():
    desk = Desk()
    for _ in range(CONFIG.connection_window // INITIAL_CHANNEL_CREDIT):
        desk.flow.account(desk.channel(), INITIAL_CHANNEL_CREDIT)
        desk.flow.credit.raise_limit()
    assert desk.flow.credit.limit == CONFIG.connection_window
    with pytest.raises(PeerViolationError):
        desk.flow.account(desk.channel(), 1)
