"""What goes into a burst, and in which order."""

import random

from opnode.protocols.rudp.acknowledgements import Acknowledgements
from opnode.protocols.rudp.burst import BurstBuilder
from opnode.protocols.rudp.channel_table import ChannelTable
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.connection_ids import ConnectionIds
from opnode.protocols.rudp.control_queue import ControlQueue
from opnode.protocols.rudp.datagram_queue import DatagramQueue
from opnode.protocols.rudp.event_queue import EventQueue
from opnode.protocols.rudp.frames import (
    BASE_CHUNK_SIZE,
    INITIAL_CONNECTION_CREDIT,
    AckFrame,
    DataFrame,
    DatagramFrame,
    Frame,
    FrameType,
    PingFrame,
    parse_frames,
)
from opnode.protocols.rudp.packet import (
    BASE_PACKET_SIZE,
    HEADER_SIZE,
    NONCE_AT,
    PROOF_SIZE,
)
from opnode.protocols.rudp.packet_keys import PacketKeys
from opnode.protocols.rudp.receipt_proof import ReceiptProof
from opnode.protocols.rudp.recovery import Recovery
from opnode.protocols.rudp.sealer import PacketSealer
from opnode.protocols.rudp.send_rate import SendRate
from opnode.testing.pair import seeded_keys

KEYS, THEIR_KEYS = seeded_keys()
THEIRS = PacketKeys(THEIR_KEYS, initiator=False, config=RudpConfig())
WIDE = 1 << 24


class Desk:
    """A builder with all that it works with."""

    def __init__(self) -> None:
        ids = ConnectionIds(KEYS, of_initiator=False, ours=False)
        self.connection_id = ids[0]
        proof = ReceiptProof(bytes(32))
        keys = PacketKeys(KEYS, initiator=True, config=RudpConfig())
        self.sealer = PacketSealer(keys, ids[0], proof)
        self.controls = ControlQueue()
        self.acks = Acknowledgements(max_ranges=100, max_delay_s=0.005)
        self.recovery = Recovery(initial_rtt_s=0.1, min_pto_s=0.01)
        self.events = EventQueue(max_events=100, max_datagrams=100)
        self.channels = ChannelTable(
            initiator=True,
            config=RudpConfig(),
            events=self.events,
            controls=self.controls,
        )
        self.controls.take(1000, lambda _: b"")
        self.rate = SendRate(
            RudpConfig(), self.recovery, self.controls, random.Random(1)
        )
        self.builder = BurstBuilder(
            sealer=self.sealer,
            channels=self.channels,
            controls=self.controls,
            acks=self.acks,
            recovery=self.recovery,
            rate=self.rate,
        )
        self.builder.datagrams = DatagramQueue(self.events, 100)
        self.builder.max_segments = 54

    def write(self, size: int) -> int:
        """Open a channel with that much to send; its credit frame is left out."""
        channel = self.channels.open()
        self.channels.on_channel_credit(channel.channel_id, 1 << 30)
        self.controls.take(1000, lambda _: b"")
        self.channels.write(
            channel.channel_id, memoryview(random.Random(1).randbytes(size))
        )
        return channel.channel_id

    def build(self, window: int = WIDE) -> list[list[Frame]]:
        """Build one burst and open it."""
        # Without pacing: a window leaves at once.
        self.rate.controller.window = window
        self.rate.controller.pacing_rate = 1e12
        data = self.builder.build(1.0)
        packets = [
            data[start : start + BASE_PACKET_SIZE]
            for start in range(0, len(data), BASE_PACKET_SIZE)
        ]
        assert all(len(packet) == BASE_PACKET_SIZE for packet in packets[:-1])
        return [self.open(packet) for packet in packets]

    def open(self, packet: bytes) -> list[Frame]:
        header, body = packet[:HEADER_SIZE], packet[HEADER_SIZE:]
        assert header.startswith(self.connection_id.prefix)
        plaintext = THEIRS.decrypt(header[NONCE_AT:], body, None)
        return parse_frames(plaintext, PROOF_SIZE)

    def owe_acknowledgement(self, *, due: bool) -> None:
        self.acks.extend(0, 1, 0)
        self.acks.on_received(eliciting=1, at_once=due, now=1.0)


def data_sizes(packets: list[list[Frame]]) -> list[int]:
    return [
        len(frame.data)
        for frames in packets
        for frame in frames
        if isinstance(frame, DataFrame)
    ]


def test_bulk_leaves_in_full_packets_and_the_rest_in_a_short_last_one():
    desk = Desk()
    desk.write(10 * BASE_CHUNK_SIZE + 7)
    assert data_sizes(desk.build()) == [BASE_CHUNK_SIZE] * 10 + [7]
    assert desk.build() == []


def test_a_burst_has_at_most_54_packets_or_what_the_driver_can_send():
    desk = Desk()
    desk.write(200 * BASE_CHUNK_SIZE)
    assert len(desk.build()) == 54
    desk.builder.max_segments = 3
    assert len(desk.build()) == 3
    desk.builder.max_segments = 64
    assert len(desk.build()) == 54


def test_an_acknowledgement_that_is_due_has_the_last_packet_of_a_burst():
    desk = Desk()
    desk.write(200 * BASE_CHUNK_SIZE)
    desk.owe_acknowledgement(due=True)
    packets = desk.build()
    assert len(packets) == 54
    assert [type(frame) for frame in packets[-1]] == [AckFrame]
    assert data_sizes(packets) == [BASE_CHUNK_SIZE] * 53


def test_an_acknowledgement_that_may_wait_does_not_take_the_place_of_bulk():
    desk = Desk()
    desk.write(200 * BASE_CHUNK_SIZE)
    desk.owe_acknowledgement(due=False)
    assert data_sizes(desk.build()) == [BASE_CHUNK_SIZE] * 54


def test_without_window_only_an_acknowledgement_leaves():
    desk = Desk()
    desk.write(200 * BASE_CHUNK_SIZE)
    desk.build(window=10 * BASE_PACKET_SIZE)
    assert desk.build(window=10 * BASE_PACKET_SIZE) == []
    assert desk.rate.is_limited
    desk.controls.add_probe()
    assert desk.build(window=10 * BASE_PACKET_SIZE) == []
    desk.owe_acknowledgement(due=True)
    (frames,) = desk.build(window=10 * BASE_PACKET_SIZE)
    assert [type(frame) for frame in frames] == [AckFrame]


def test_probes_leave_whatever_the_window_says_but_no_more_of_them():
    desk = Desk()
    desk.write(200 * BASE_CHUNK_SIZE)
    desk.build(window=10 * BASE_PACKET_SIZE)
    desk.builder.probes = 2
    assert data_sizes(desk.build(window=10 * BASE_PACKET_SIZE)) == [BASE_CHUNK_SIZE] * 2
    assert desk.build(window=10 * BASE_PACKET_SIZE) == []


def test_a_burst_waits_until_a_quarter_of_the_window_is_free():
    desk = Desk()
    desk.write(400 * BASE_CHUNK_SIZE)
    assert len(desk.build(window=40 * BASE_PACKET_SIZE)) == 40
    assert desk.build(window=49 * BASE_PACKET_SIZE) == []
    assert len(desk.build(window=54 * BASE_PACKET_SIZE)) == 14


def test_short_pieces_of_many_channels_share_the_packets_of_a_burst():
    desk = Desk()
    channels = [desk.write(100) for _ in range(20)]
    packets = desk.build()
    assert len(packets) == 2
    assert sum(data_sizes(packets)) == 2000
    seen = [frame.channel_id for frames in packets for frame in frames]
    assert list(dict.fromkeys(seen)) == channels
    assert desk.build() == []


def test_a_full_packet_of_short_pieces_is_padded_so_that_others_may_follow():
    desk = Desk()
    desk.channels.on_channel_count(300)
    for _ in range(300):
        desk.write(1)
    packets = desk.build()
    assert len(packets) == 5
    assert sum(data_sizes(packets)) == 300


def test_urgent_channels_go_first_and_those_of_one_urgency_take_turns():
    desk = Desk()
    late, bulk = desk.write(10), desk.write(200 * BASE_CHUNK_SIZE)
    early, first = desk.write(10), desk.write(60 * BASE_CHUNK_SIZE)
    desk.channels.set_urgency(late, 7)
    desk.channels.set_urgency(early, 1)
    desk.channels.set_urgency(first, 0)
    bursts = [
        {frame.channel_id for frames in desk.build() for frame in frames}
        for _ in range(6)
    ]
    assert bursts[:2] == [{first}, {first, early, bulk}]
    assert late not in set().union(*bursts[:4])
    assert late in bursts[4]


def test_urgent_bulk_does_not_keep_control_frames_back():
    desk = Desk()
    desk.channels.set_urgency(desk.write(200 * BASE_CHUNK_SIZE), 0)
    desk.controls.add(FrameType.PING, 4)
    packets = desk.build()
    assert len(packets) == 54
    assert PingFrame(4) in packets[-1]


def test_ten_thousand_channels_without_credit_are_not_looked_at():
    desk = Desk()
    desk.channels.on_channel_count(20_000)
    for _ in range(10_000):
        desk.write(200)
    sent = 0
    while packets := desk.build():
        sent += sum(data_sizes(packets))
    assert sent == INITIAL_CONNECTION_CREDIT
    assert not desk.builder.has_work
    assert desk.channels.next_channel() is None


def test_channels_with_bulk_take_turns():
    desk = Desk()
    one, two = desk.write(200 * BASE_CHUNK_SIZE), desk.write(200 * BASE_CHUNK_SIZE)
    turns = [desk.build()[0][0].channel_id for _ in range(4)]
    assert turns == [one, two, one, two]


def test_control_frames_and_datagrams_come_before_short_pieces():
    desk = Desk()
    desk.write(10)
    desk.controls.add(FrameType.PING, 4)
    desk.builder.datagrams.put(b"datagram")
    (frames,) = desk.build()
    assert [type(frame) for frame in frames] == [PingFrame, DatagramFrame, DataFrame]


def test_datagrams_that_do_not_fit_wait_for_the_next_packet():
    desk = Desk()
    for _ in range(3):
        desk.builder.datagrams.put(bytes(600))
    assert [len(desk.build()) for _ in range(4)] == [1, 1, 1, 0]


def test_lost_bytes_are_sent_again_before_new_ones():
    desk = Desk()
    number = desk.write(100 * BASE_CHUNK_SIZE)
    desk.build()
    channel = desk.channels.find(number)
    assert channel is not None
    channel.outgoing.on_lost(2 * BASE_CHUNK_SIZE, 4 * BASE_CHUNK_SIZE)
    packets = desk.build()
    offsets = [frames[0].offset // BASE_CHUNK_SIZE for frames in packets]
    assert offsets == [2, 3, *range(54, 100)]


def test_figures_count_packets_and_bytes():
    desk = Desk()
    desk.write(10 * BASE_CHUNK_SIZE)
    desk.build()
    assert desk.sealer.packets_sent == 10
    assert desk.sealer.bytes_sent == 10 * BASE_PACKET_SIZE
    assert desk.recovery.bytes_in_flight == 10 * BASE_PACKET_SIZE


def test_a_question_to_a_silent_sender_is_a_ping_as_long_as_a_base_packet():
    desk = Desk()
    desk.builder.asks_sender = True
    assert desk.builder.has_work
    wire = desk.builder.build(1.0)
    assert len(wire) == desk.recovery.bytes_in_flight == BASE_PACKET_SIZE
    assert (desk.sealer.packets_sent, desk.sealer.bytes_sent) == (1, BASE_PACKET_SIZE)
    assert not desk.builder.has_work
