"""Numbers, limits and the end of channels."""

import pytest

from opnode.core.errors import LocalProtocolError
from opnode.protocols.rudp.channel_table import ChannelTable
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.control_queue import ControlQueue
from opnode.protocols.rudp.event_queue import EventQueue
from opnode.protocols.rudp.events import (
    ChannelDelivered,
    ChannelOpened,
    ChannelReadable,
    ChannelReset,
    ChannelsAvailable,
    ChannelStopped,
    ChannelWritable,
    Event,
)
from opnode.protocols.rudp.frames import FrameType
from opnode.protocols.rudp.sent_run import SentPiece


class Table:
    """A responder's table and what it told."""

    def __init__(self, **settings: int) -> None:
        self.events = EventQueue(max_events=5000, max_datagrams=10)
        self.controls = ControlQueue()
        self.table = ChannelTable(
            initiator=False,
            config=RudpConfig(**settings),
            events=self.events,
            controls=self.controls,
        )
        self.told()

    def told(self) -> list[bytes]:
        """Take the control frames that wait."""
        return self.controls.take(10_000, self.table.encode_control)[0]

    def happened(self) -> list[Event]:
        found = []
        while (event := self.events.take()) is not None:
            found.append(event)
        return found

    def deliver(self, channel_id: int) -> None:
        """Send and acknowledge all that a channel has, with its end mark."""
        channel = self.table.find(channel_id)
        assert channel is not None
        out = channel.outgoing
        start, stop = out.sent, out.written
        self.table.take_range(channel, start, stop)
        fin, out.fin_pending = out.fin_pending, False
        self.table.on_piece_acked(SentPiece(out, start, stop, fin))


def test_a_channel_that_never_was_is_a_mistake_of_the_caller():
    table = Table().table
    for channel_id in (0, 1, 7, -1):
        with pytest.raises(LocalProtocolError, match=f"no channel {channel_id}"):
            table.find(channel_id)


def test_writing_after_finish_is_a_mistake_and_finishing_again_is_not():
    desk = Table()
    channel_id = desk.table.open().channel_id
    desk.table.finish(channel_id)
    desk.table.finish(channel_id)
    with pytest.raises(LocalProtocolError, match="finished"):
        desk.table.write(channel_id, memoryview(b"x"))


def test_a_full_buffer_tells_when_a_quarter_of_it_is_free():
    desk = Table(send_buffer=4000)
    channel_id = desk.table.open().channel_id
    assert desk.table.write(channel_id, memoryview(bytes(5000))) == 4000
    channel = desk.table.find(channel_id)
    assert channel is not None
    out = channel.outgoing
    desk.table.take_range(channel, 0, 4000)
    desk.table.on_piece_acked(SentPiece(out, 0, 999, fin=False))
    assert desk.happened() == []
    desk.table.on_piece_acked(SentPiece(out, 999, 1000, fin=False))
    desk.table.on_piece_acked(SentPiece(out, 1000, 4000, fin=False))
    assert desk.happened() == [ChannelWritable(channel_id)]


def test_readable_is_told_once_until_it_was_taken():
    desk = Table()
    channel = desk.table.for_frame(0)
    assert channel is not None
    desk.table.on_data(channel, 0, b"a", fin=False)
    desk.table.on_data(channel, 1, b"b", fin=False)
    assert desk.happened() == [ChannelOpened(0), ChannelReadable(0)]
    desk.table.on_event_taken(0)
    desk.table.on_event_taken(99)
    desk.table.on_data(channel, 2, b"c", fin=False)
    desk.table.on_data(channel, 0, b"abc", fin=False)
    assert desk.happened() == [ChannelReadable(0)]


def test_a_delivered_and_read_channel_is_forgotten_and_credited():
    desk = Table(max_channels=128)
    for index in range(64):
        channel = desk.table.for_frame(2 * index)
        assert channel is not None
        desk.table.on_data(channel, 0, b"", fin=True)
        desk.table.finish(2 * index)
        desk.deliver(2 * index)
        assert desk.table.read(2 * index, 10, 0.0) == b""
    assert len(desk.table) == 0
    assert ChannelDelivered(0) in desk.happened()
    assert desk.told() == [b"\x07" + (128 + 64).to_bytes(4, "big")]


def test_late_news_of_a_forgotten_channel_change_nothing():
    desk = Table()
    channel = desk.table.for_frame(0)
    assert channel is not None
    desk.table.on_reset(0, 1, 0)
    desk.table.reset(0, 2)
    desk.table.on_reset_acked(0)
    desk.happened()
    out = channel.outgoing
    piece = SentPiece(out, 0, 0, fin=True)
    desk.table.on_piece_lost(piece)
    desk.table.on_piece_acked(piece)
    desk.table.on_reset_acked(0)
    desk.table.on_data(channel, 0, b"x", fin=False)
    desk.table.after_turn(channel)
    for verb in (desk.table.finish, desk.table.on_event_taken):
        verb(0)
    desk.table.reset(0, 1)
    desk.table.stop_reading(0, 1)
    assert desk.table.write(0, memoryview(b"x")) == 0
    assert desk.happened() == []
    assert not desk.table.has_data


def test_control_frames_that_became_needless_are_empty():
    desk = Table()
    channel = desk.table.for_frame(0)
    assert channel is not None
    desk.table.on_data(channel, 0, b"a", fin=True)
    assert desk.table.encode_control((FrameType.CHANNEL_CREDIT, 0)) == b""
    assert desk.table.encode_control((FrameType.CHANNEL_CREDIT, 44)) == b""


def test_stop_reading_resets_with_the_same_code_and_only_once():
    desk = Table()
    channel_id = desk.table.open().channel_id
    desk.told()
    desk.table.on_stop_reading(channel_id, 6)
    desk.table.on_stop_reading(channel_id, 7)
    assert desk.happened() == [ChannelStopped(channel_id, 6)]
    assert desk.told() == [b"\x08" + bytes([0, 0, 0, 1, 0, 0, 0, 6]) + bytes(8)]


def test_a_reset_after_stop_reading_is_no_event():
    desk = Table()
    desk.table.for_frame(0)
    desk.table.stop_reading(0, 1)
    desk.table.stop_reading(0, 1)
    desk.table.on_reset(0, 1, 10)
    assert not [one for one in desk.happened() if isinstance(one, ChannelReset)]
    assert desk.table.flow.credit.consumed == 10


def test_stop_reading_at_the_known_end_is_the_end():
    desk = Table()
    channel = desk.table.for_frame(0)
    assert channel is not None
    desk.table.on_data(channel, 5, b"", fin=True)
    desk.table.stop_reading(0, 1)
    desk.table.finish(0)
    desk.deliver(0)
    assert len(desk.table) == 0


def test_a_lower_channel_count_or_credit_is_old_news():
    desk = Table()
    desk.table.on_channel_count(200)
    desk.table.on_channel_count(150)
    assert desk.happened() == [ChannelsAvailable(200)]
    desk.table.on_channel_count(1 << 32)
    assert desk.table.channels_available == 1 << 31
    before = desk.table.new_bytes_left
    desk.table.on_connection_credit(5)
    assert desk.table.new_bytes_left == before


def test_a_lost_end_mark_and_a_lost_announcement_are_sent_again():
    desk = Table()
    channel = desk.table.open()
    desk.table.take_range(channel, 0, 0)
    assert channel.is_announced
    desk.table.on_piece_lost(SentPiece(channel.outgoing, 0, 0, fin=False))
    assert not channel.is_announced
    desk.table.take_range(channel, 0, 0)
    desk.table.finish(channel.channel_id)
    channel.outgoing.fin_pending = False
    desk.table.on_piece_lost(SentPiece(channel.outgoing, 0, 0, fin=True))
    assert channel.outgoing.fin_pending
    assert desk.table.next_channel() is channel


def test_what_was_lost_goes_out_although_there_is_no_credit():
    desk = Table()
    one, two = desk.table.open(), desk.table.open()
    for channel in (one, two):
        desk.table.take_range(channel, 0, 0)
        desk.table.after_turn(channel)
        desk.table.on_channel_credit(channel.channel_id, 1 << 30)
        desk.table.write(channel.channel_id, memoryview(bytes(1 << 20)))
    assert desk.table.next_channel() is one
    desk.table.take_range(one, 0, 1 << 20)
    desk.table.after_turn(one)
    assert not desk.table.has_data
    assert desk.table.next_channel() is None
    desk.table.on_piece_lost(SentPiece(one.outgoing, 0, 10, fin=False))
    assert desk.table.has_data
    assert desk.table.next_channel() is one


def test_an_urgency_outside_of_its_levels_is_refused():
    desk = Table()
    channel = desk.table.open()
    for urgency in (-1, 8):
        with pytest.raises(LocalProtocolError, match=f"urgency of {urgency}"):
            desk.table.set_urgency(channel.channel_id, urgency)
    desk.table.set_urgency(channel.channel_id, 7)
    assert desk.table.next_channel() is channel


def test_a_channel_that_is_over_leaves_nothing_in_the_order_of_service():
    desk = Table()
    channel = desk.table.for_frame(0)
    assert channel is not None
    desk.table.write(0, memoryview(b"abc"))
    desk.table.reset(0, 1)
    desk.table.on_reset_acked(0)
    desk.table.on_reset(0, 1, 0)
    assert len(desk.table) == 0
    assert not desk.table.has_data
    assert desk.table.next_channel() is None
