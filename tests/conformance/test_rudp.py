"""The numbered rules of docs/protocols/rudp.md, each tried on a whole connection."""

import gc
import random
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest

from opnode.core.addresses import Endpoint
from opnode.core.crypto import expand, new_aead
from opnode.core.errors import LocalProtocolError
from opnode.protocols.rudp import packet
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.congestion import CongestionAlgorithm
from opnode.protocols.rudp.connection import RudpConnection
from opnode.protocols.rudp.events import (
    ChannelDelivered,
    ChannelOpened,
    ChannelReadable,
    ChannelReset,
    ChannelsAvailable,
    ChannelStopped,
    Closed,
    DatagramReceived,
    LocalIdsChanged,
    PathChanged,
    PingAcknowledged,
    Side,
)
from opnode.protocols.rudp.frames import (
    BASE_CHUNK_SIZE,
    INITIAL_CHANNEL_CREDIT,
    INITIAL_CONNECTION_CREDIT,
    MAX_OFFSET,
    AckFrame,
    ChannelCountFrame,
    ChannelCreditFrame,
    CloseFrame,
    ConnectionCreditFrame,
    DataFrame,
    DatagramFrame,
    Frame,
    FrameType,
    PathChallengeFrame,
    PathResponseFrame,
    PingFrame,
    ResetFrame,
    StopReadingFrame,
    encode_ack_frequency,
    encode_channel_credit,
    encode_close,
    encode_connection_credit,
    encode_data,
    encode_datagram,
    encode_path_challenge,
    encode_path_response,
    encode_ping,
    encode_reset,
    encode_stop_reading,
)
from opnode.protocols.rudp.key_schedule import first_root, packet_key
from opnode.protocols.rudp.lifetime import ConnectionState
from opnode.protocols.rudp.packet import Transmission
from opnode.protocols.rudp.violation import CloseCode
from opnode.testing.pair import End, LinkConfig, Pair, seeded_keys
from tests.unit.protocols.rudp.far_end import ELSEWHERE, THERE, FarEnd

KIB = 1024


def settled(**settings: object) -> FarEnd:
    """Return a far end whose connection has said its first words."""
    far = FarEnd(config=RudpConfig(**settings) if settings else None)
    far.settle()
    far.events()
    return far


def data(channel_id: int, offset: int, text: bytes, *, fin: bool = False) -> bytes:
    return encode_data(channel_id, offset, text, fin=fin)


# --- packets --------------------------------------------------------------------------


def test_r_01_the_nonce_is_the_end_of_the_header_and_all_that_has_a_meaning_is_in_it():
    far = FarEnd()
    wire = far.packet(encode_ping(7), number=5)
    number = (far.its_id.offset + 5).to_bytes(7, "big")
    header = b"\xe0" + far.connection.local_ids[0] + b"\0" + number
    assert wire[:17] == header
    _, keys = seeded_keys()
    key = packet_key(first_root(keys, initiator=False), by_initiator=True)
    opened = new_aead(key).decrypt(header[5:], wire[17:], None)
    assert opened[1:] == b"\x01\x00\x00\x00\x07"
    assert len(wire) == 17 + 1 + 5 + 16


def test_r_01_packet_numbers_start_at_0_and_grow_by_one():
    far = FarEnd()
    numbers = [number for number, _ in far.sent()]
    far.connection.ping(far.now)
    numbers += [number for number, _ in far.sent()]
    assert numbers == [0, 1]


def test_r_02_one_changed_bit_anywhere_makes_a_packet_have_no_effect():
    far = settled()
    wire = far.packet(encode_datagram(b"hello"))
    for bit in range(len(wire) * 8):
        changed = bytearray(wire)
        changed[bit // 8] ^= 1 << bit % 8
        far.arrive(bytes(changed))
    figures = far.connection.statistics()
    assert figures.forged + figures.malformed == len(wire) * 8
    assert far.events() == []
    far.arrive(wire)
    assert far.events() == [DatagramReceived(b"hello")]


def test_r_03_connection_ids_come_from_the_owner_s_receiving_key_and_the_role():
    _, keys = seeded_keys()
    far = FarEnd()
    secret = expand(keys.receive, b"opnode rudp ids", 32)
    found = expand(secret, b"opnode rudp id responder " + bytes(4), 16)
    assert far.connection.local_ids[0] == found[:8] == far.its_id.wire_id
    assert far.its_id.offset == int.from_bytes(found[8:], "big") % (1 << 54)


def test_r_04_a_packet_number_is_accepted_once():
    far = settled()
    wire = far.packet(encode_datagram(b"once"))
    for _ in range(3):
        far.arrive(wire)
    assert far.events() == [DatagramReceived(b"once")]
    assert far.connection.statistics().duplicates == 2


def test_r_04_numbers_below_the_replay_floor_are_refused():
    far = settled(max_received_ranges=4)
    first = far.next_number
    for number in range(first + 10, first + 30, 2):
        far.feed(encode_ping(0), number=number)
    far.feed(encode_datagram(b"late"), number=first + 11)
    assert far.events() == []
    far.feed(encode_datagram(b"in time"), number=first + 27)
    assert far.events() == [DatagramReceived(b"in time")]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda wire: b"\xe1" + wire[1:],
        lambda wire: wire[:1] + bytes(8) + wire[9:],
        lambda wire: wire[:9] + b"\x80" + wire[10:],
        lambda wire: wire[:34],
        lambda wire: wire[:9],
        lambda wire: wire + bytes(65_508 - len(wire)),
    ],
    ids=["type", "id", "flag", "no frame", "no header", "65508 bytes"],
)
def test_r_05_packets_of_another_shape_are_malformed(spoil):
    far = settled()
    far.arrive(spoil(far.packet(encode_datagram(b"x"))))
    assert far.connection.statistics().malformed == 1
    assert far.events() == []


def test_r_06_nothing_is_sent_before_a_path_is_set():
    far = FarEnd(connected=False)
    channel = far.connection.open_channel(far.now)
    far.connection.send(channel, b"early", far.now)
    assert far.sent() == []
    assert far.connection.next_deadline() is None
    far.connection.handle_deadline(far.now + 1000)
    far.connection.set_path(THERE, far.now)
    assert far.frames(DataFrame) == [DataFrame(1, 0, b"early", fin=False)]


def test_r_07_the_connection_ends_when_its_key_has_protected_2_23_packets():
    far = settled()
    far.connection._sealer.next_number = 1 << 23
    far.connection.ping(far.now)
    assert [frame.code for frame in far.frames(CloseFrame)] == [CloseCode.KEY_EXHAUSTED]
    closed = far.closed()
    assert closed is not None
    assert closed.code == CloseCode.KEY_EXHAUSTED


@pytest.mark.parametrize(
    "plaintext",
    [
        b"\x0c",
        b"\xff",
        encode_ping(1)[:-1],
        data(0, 0, b"abc")[:-1],
        data(0, MAX_OFFSET, b"a"),
        encode_datagram(b"abc")[:-1],
        encode_close(0, "bye")[:-1],
        b"\x0b" + bytes(4) + (257).to_bytes(2, "big") + bytes(257),
        b"\x02" + bytes(4) + bytes(8) + b"\x00" + bytes(4),
        b"\x02" + bytes(4) + bytes(8) + b"\x41" + bytes(4),
        b"\x02" + bytes(4) + bytes(8) + b"\x01" + bytes(3) + b"\x02",
        b"\x02" + bytes(4) + bytes(8) + b"\x01" + bytes(4),
        b"\x02" + bytes(4) + bytes(7) + b"\x09\x02" + bytes(3) + b"\x01" + bytes(8),
        encode_reset(0, 0, MAX_OFFSET + 1),
    ],
)
def test_r_08_a_frame_that_cannot_be_read_closes_with_frame_encoding(plaintext):
    far = settled()
    far.feed(plaintext)
    closed = far.closed()
    assert closed is not None
    assert (closed.code, closed.by) == (CloseCode.FRAME_ENCODING, Side.LOCAL)
    assert [frame.code for frame in far.frames(CloseFrame)] == [closed.code]


# --- acknowledgements -----------------------------------------------------------------


def test_r_09_a_lone_packet_is_acknowledged_after_5_ms():
    far = settled()
    far.feed(encode_datagram(b"x"))
    assert far.sent() == []
    deadline = far.connection.next_deadline()
    assert deadline == pytest.approx(far.now + 0.005)
    far.wait(0.005)
    (ack,) = far.frames(AckFrame)
    assert ack.ranges[0][1] == far.next_number
    assert ack.delay_s == pytest.approx(0.005)


def test_r_09_a_packet_that_leaves_earlier_carries_the_acknowledgement():
    far = settled()
    far.feed(encode_datagram(b"question"))
    far.connection.send_datagram(b"answer", far.now)
    ((_, frames),) = far.sent()
    assert [type(frame) for frame in frames] == [AckFrame, DatagramFrame]
    far.wait(0.006)
    assert far.frames(AckFrame) == []


def test_r_10_a_second_packet_is_acknowledged_at_once_and_a_run_once():
    far = settled()
    far.arrive(*(far.packet(encode_datagram(b"x")) for _ in range(5)))
    (ack,) = far.frames(AckFrame)
    assert ack.ranges[0][1] == far.next_number


def test_r_10_a_packet_out_of_order_is_acknowledged_at_once():
    far = settled()
    far.next_number += 1
    far.feed(encode_datagram(b"x"))
    (ack,) = far.frames(AckFrame)
    assert len(ack.ranges) == 2


def test_r_10_who_asked_for_few_acknowledgements_hears_of_a_hole_with_the_next():
    far = settled()
    far.feed(encode_ack_frequency(0, 32, 0.02))
    far.wait(0.1)
    far.sent()
    far.next_number += 1
    far.feed(encode_datagram(b"x"))
    assert far.frames(AckFrame) == []
    far.wait(0.02)
    (ack,) = far.frames(AckFrame)
    assert len(ack.ranges) == 2


def test_r_10_a_ping_is_acknowledged_at_once():
    far = settled()
    far.feed(encode_ping(3))
    assert len(far.frames(AckFrame)) == 1


def test_r_11_acknowledgements_are_not_acknowledged():
    far = settled()
    far.connection.ping(far.now)
    ((number, _),) = far.sent()
    far.acknowledge(number)
    far.wait(1.0)
    assert far.sent() == []


def test_r_12_an_acknowledgement_tells_the_64_highest_ranges():
    far = settled()
    for _ in range(100):
        far.next_number += 1
        far.feed(encode_datagram(b"x"))
    ack = far.frames(AckFrame)[-1]
    assert len(ack.ranges) == 64
    assert ack.ranges[0][1] == far.next_number


def test_r_12_ranges_are_forgotten_once_the_peer_has_heard_them():
    far = settled()
    for _ in range(20):
        far.next_number += 1
        far.feed(encode_datagram(b"x"))
    ((number, frames),) = far.sent()
    assert [type(frame) for frame in frames] == [AckFrame, PingFrame]
    far.acknowledge(number)
    far.feed(encode_ping(1))
    (ack,) = far.frames(AckFrame)
    assert len(ack.ranges) == 1
    far.feed(encode_datagram(b"replay"), number=far.next_number - 5)
    assert far.connection.statistics().duplicates == 1


def test_r_13_acknowledging_what_was_never_sent_is_a_violation():
    far = settled()
    far.acknowledge(1000)
    closed = far.closed()
    assert closed is not None
    assert closed.code == CloseCode.PROTOCOL_VIOLATION


# --- losses ---------------------------------------------------------------------------


def sent_pings(far: FarEnd, count: int) -> list[int]:
    """Let the connection send that many packets; returns their numbers."""
    numbers = []
    for _ in range(count):
        far.connection.send_datagram(b"x", far.now)
        numbers += [number for number, _ in far.sent()]
    return numbers


def test_r_14_three_packets_behind_is_lost():
    far = settled()
    channel = far.connection.open_channel(far.now)
    far.connection.send(channel, b"precious", far.now)
    far.sent()
    numbers = sent_pings(far, 3)
    far.acknowledge(*numbers[:2])
    assert far.frames(DataFrame) == []
    far.acknowledge(*numbers)
    assert far.frames(DataFrame) == [DataFrame(channel, 0, b"precious", fin=False)]
    assert far.connection.statistics().packets_lost == 1


def test_r_14_nine_eighths_of_a_round_trip_behind_is_lost():
    far = settled()
    far.wait(0.1)
    far.connection.reset(far.connection.open_channel(far.now), 9, far.now)
    assert far.frames(ResetFrame) == [ResetFrame(1, 9, 0)]
    far.connection.ping(far.now)
    ((number, _),) = far.sent()
    far.now += 0.08
    far.acknowledge(number)
    assert far.frames(ResetFrame) == []
    rtt_s = max(
        far.connection.statistics().smoothed_rtt_s or 0,
        far.connection.statistics().latest_rtt_s or 0,
    )
    deadline = far.connection.next_deadline()
    assert deadline == pytest.approx(far.now - 0.08 + rtt_s * 9 / 8)
    far.wait(rtt_s)
    assert far.frames(ResetFrame) == [ResetFrame(1, 9, 0)]


def test_r_14_a_lost_datagram_is_not_repeated():
    far = settled()
    numbers = sent_pings(far, 4)
    far.acknowledge(*numbers[1:])
    assert far.connection.statistics().packets_lost == 1
    assert far.frames(DatagramFrame) == []


def test_r_15_reordering_that_looked_like_loss_makes_the_threshold_grow():
    far = settled()
    numbers = sent_pings(far, 4)
    far.acknowledge(*numbers[1:])
    far.acknowledge(*numbers)
    later = sent_pings(far, 6)
    far.acknowledge(*later[1:])
    assert far.connection.statistics().packets_lost == 1
    more = sent_pings(far, 1)
    far.acknowledge(*later[1:], *more)
    assert far.connection.statistics().packets_lost == 2


def test_r_16_without_an_answer_the_oldest_bytes_leave_again_with_a_ping():
    far = settled()
    channel = far.connection.open_channel(far.now)
    far.connection.send(channel, bytes(4 * BASE_CHUNK_SIZE), far.now)
    assert len(far.frames(DataFrame)) == 4
    deadline = far.connection.next_deadline()
    assert deadline is not None
    waits = []
    for _ in range(4):
        deadline = far.connection.next_deadline()
        assert deadline is not None
        waits.append(deadline - far.now)
        far.now = deadline
        far.connection.handle_deadline(far.now)
        frames = [frame for _, frames in far.sent() for frame in frames]
        assert isinstance(frames.pop(2), AckFrame)
        assert frames == [
            DataFrame(channel, 0, bytes(BASE_CHUNK_SIZE), fin=False),
            DataFrame(
                channel,
                BASE_CHUNK_SIZE,
                bytes(BASE_CHUNK_SIZE),
                fin=False,
            ),
            PingFrame(0),
        ]
    for shorter, longer in pairwise(waits):
        assert longer == pytest.approx(2 * shorter)


def test_r_16_two_packets_leave_although_one_would_hold_it_all():
    far = settled(idle_timeout_s=90)
    far.connection.ping(far.now)
    assert len(far.sent()) == 1
    for _ in range(3):
        deadline = far.connection.next_deadline()
        assert deadline is not None
        far.now = deadline
        far.connection.handle_deadline(far.now)
        assert len(far.sent()) == 2
        assert far.sent() == []


def test_r_16_with_what_is_asked_again_goes_the_acknowledgement_that_may_be_lost():
    far = settled()
    far.feed(encode_ping(0))
    assert [ack.ranges[0][1] for ack in far.frames(AckFrame)] == [far.next_number]
    far.connection.ping(far.now)
    assert far.frames(AckFrame) == []
    deadline = far.connection.next_deadline()
    assert deadline is not None
    far.now = deadline
    far.connection.handle_deadline(far.now)
    again = far.sent()
    assert [type(frames[0]) for _, frames in again] == [AckFrame, AckFrame]
    for _, (ack, *_) in again:
        assert isinstance(ack, AckFrame)
        assert ack.ranges[0][1] == far.next_number


def test_r_16_the_timeout_doubles_up_to_three_seconds():
    far = settled(idle_timeout_s=90)
    far.connection.ping(far.now)
    far.sent()
    waits, sent_at = [], far.now
    while len(waits) < 12:
        deadline = far.connection.next_deadline()
        assert deadline is not None
        far.now = deadline
        far.connection.handle_deadline(far.now)
        if far.sent():
            waits.append(far.now - sent_at)
            sent_at = far.now
    assert waits[-3:] == pytest.approx([3.0] * 3)
    assert max(waits) <= 3.0


def test_r_16_all_packets_lost_for_a_while_loses_no_byte():
    pair = Pair(link=LinkConfig(loss=1.0))
    channel = pair.a.connection.open_channel(pair.now)
    pair.a.connection.send(channel, b"patience", pair.now)
    pair.run_for(20.0)
    assert pair.a.connection.statistics().probe_timeouts >= 5
    pair.link = LinkConfig()
    pair.drive(lambda: bool(pair.b.events_of(ChannelReadable)), within_s=60)
    assert pair.b.connection.read(channel, 100, pair.now) == b"patience"


def test_r_17_a_loss_cuts_the_window_to_seven_tenths_once_per_round_trip():
    far = settled(congestion=CongestionAlgorithm.CUBIC)
    before = far.connection.statistics().congestion_window
    numbers = sent_pings(far, 12)
    far.acknowledge(*numbers[3:6])
    far.acknowledge(*numbers[3:6], *numbers[9:])
    figures = far.connection.statistics()
    assert figures.packets_lost == 6
    assert figures.congestion_window == int(before * 0.7)


def test_r_18_the_window_stays_while_the_application_is_the_limit():
    far = settled()
    before = far.connection.statistics().congestion_window
    for _ in range(50):
        far.acknowledge(*sent_pings(far, 1))
    assert far.connection.statistics().congestion_window == before


def test_r_18_the_window_grows_while_it_is_the_limit():
    pair = Pair()
    before = pair.a.connection.statistics().congestion_window
    channel = pair.a.connection.open_channel(pair.now)
    pair.a.connection.send(channel, bytes(200 * KIB), pair.now)
    pair.run_for(1.0)
    assert pair.a.connection.statistics().congestion_window > before


def test_r_19_persistent_congestion_takes_the_window_to_the_bottom():
    far = settled(congestion=CongestionAlgorithm.CUBIC)
    far.acknowledge(*sent_pings(far, 1))
    channel = far.connection.open_channel(far.now)
    far.connection.send(channel, bytes(3 * BASE_CHUNK_SIZE), far.now)
    numbers = [number for number, _ in far.sent()]
    probes = 0
    while probes < 6:
        deadline = far.connection.next_deadline()
        assert deadline is not None
        far.now = deadline
        far.connection.handle_deadline(far.now)
        sent = [number for number, _ in far.sent()]
        probes += bool(sent)
        numbers += sent
    far.acknowledge(numbers[-1])
    assert far.connection.statistics().congestion_window == 2 * packet.BASE_PACKET_SIZE


# --- channels -------------------------------------------------------------------------


def test_r_20_channel_numbers_tell_who_opened_and_a_frame_opens_the_lower_ones():
    far = settled()
    assert far.connection.open_channel(far.now) == 1
    assert far.connection.open_channel(far.now) == 3
    far.feed(data(4, 0, b"third"))
    opened = [event for event in far.events() if isinstance(event, ChannelOpened)]
    assert opened == [ChannelOpened(0), ChannelOpened(2), ChannelOpened(4)]


def test_r_20_an_empty_channel_is_announced_even_if_the_announcement_is_lost():
    pair = Pair(link=LinkConfig(loss=1.0))
    channel = pair.a.connection.open_channel(pair.now)
    pair.run_for(0.1)
    pair.link = LinkConfig()
    pair.drive(lambda: bool(pair.b.events))
    pair.run_for(1.0)
    assert ChannelOpened(channel) in pair.b.events


def test_r_21_opening_too_many_channels_closes_with_channel_limit():
    far = settled(max_channels=128)
    far.feed(data(2 * 127, 0, b"x"))
    assert far.closed() is None
    far.feed(data(2 * 128, 0, b"x"))
    closed = far.closed()
    assert closed is not None
    assert closed.code == CloseCode.CHANNEL_LIMIT


def test_r_21_a_frame_for_a_channel_that_we_have_not_opened_is_a_violation():
    far = settled()
    far.feed(encode_channel_credit(1, 10))
    closed = far.closed()
    assert closed is not None
    assert closed.code == CloseCode.PROTOCOL_VIOLATION


def test_r_21_channels_that_end_make_room_for_others():
    config = RudpConfig(max_channels=128)
    pair = Pair(config=config)
    a, b = pair.a.connection, pair.b.connection
    for _ in range(3):
        while a.channels_available:
            a.finish(a.open_channel(pair.now), pair.now)
        with pytest.raises(LocalProtocolError, match="channels"):
            a.open_channel(pair.now)
        pair.run_for(0.2)
        for event in pair.b.events_of(ChannelOpened):
            b.finish(event.channel_id, pair.now)
            b.read(event.channel_id, 1, pair.now)
        pair.b.events.clear()
        pair.run_for(0.2)
        for event in pair.a.events_of(ChannelReadable):
            assert a.read(event.channel_id, 1, pair.now) == b""
        assert pair.a.events_of(ChannelsAvailable)
        pair.a.events.clear()
        pair.run_for(0.2)
        assert a.statistics().channels_open == 0


@pytest.mark.parametrize("code", [CloseCode.FLOW_CONTROL])
def test_r_22_bytes_beyond_the_channel_s_credit_close_with_flow_control(code):
    far = FarEnd(config=RudpConfig(channel_window=256 * KIB))
    far.settle()
    far.feed(data(0, 256 * KIB - 1, b"a"))
    assert far.closed() is None
    far.feed(data(0, 256 * KIB, b"b"))
    closed = far.closed()
    assert closed is not None
    assert closed.code == code


def test_r_22_bytes_beyond_the_connection_s_credit_close_with_flow_control():
    far = FarEnd(config=RudpConfig(channel_window=256 * KIB, connection_window=1 << 20))
    far.settle()
    for channel in (0, 2, 4, 6):
        far.feed(data(channel, 256 * KIB - 1, b"a"))
    assert far.closed() is None
    far.feed(data(8, 0, b"b"))
    closed = far.closed()
    assert closed is not None
    assert closed.code == CloseCode.FLOW_CONTROL


def test_r_22_a_final_size_beyond_the_credit_closes_with_flow_control():
    far = settled()
    far.feed(encode_reset(0, 1, 1 << 40))
    closed = far.closed()
    assert closed is not None
    assert closed.code == CloseCode.FLOW_CONTROL


def test_r_22_the_first_packet_tells_how_many_channels_may_be_opened():
    far = FarEnd()
    ((_, frames),) = far.sent()
    assert frames == [ChannelCountFrame(RudpConfig().max_channels)]


def in_round_trips(far: FarEnd) -> Iterator[list[tuple[int, list[Frame]]]]:
    """Take all that wants to be sent, acknowledging it 10 ms later."""
    silent = 0
    while silent < 10:
        frames = far.sent()
        silent = 0 if frames else silent + 1
        yield frames
        far.wait(0.01)
        if frames:
            far.acknowledge(*(number for number, _ in frames))


def test_r_22_nothing_is_sent_beyond_the_peer_s_credit():
    far = settled()
    channel = far.connection.open_channel(far.now)
    far.connection.send(channel, bytes(1 << 20), far.now)
    far.connection.finish(channel, far.now)
    highest = 0
    for frames in in_round_trips(far):
        for _, parts in frames:
            for part in parts:
                if isinstance(part, DataFrame):
                    highest = max(highest, part.offset + len(part.data))
    assert highest == INITIAL_CHANNEL_CREDIT
    far.feed(encode_channel_credit(channel, INITIAL_CHANNEL_CREDIT + 10))
    assert [len(frame.data) for frame in far.frames(DataFrame)] == [10]
    far.feed(encode_channel_credit(channel, 5))
    assert far.frames(DataFrame) == []


def test_r_22_the_connection_s_credit_stops_all_channels_together():
    far = settled()
    highest = {}
    for _ in range(8):
        channel = far.connection.open_channel(far.now)
        far.connection.send(channel, bytes(256 * KIB), far.now)
    for frames in in_round_trips(far):
        for _, parts in frames:
            for part in parts:
                if isinstance(part, DataFrame):
                    stop = part.offset + len(part.data)
                    highest[part.channel_id] = max(
                        stop, highest.get(part.channel_id, 0)
                    )
    assert sum(highest.values()) == INITIAL_CONNECTION_CREDIT
    far.feed(encode_connection_credit(INITIAL_CONNECTION_CREDIT + 7))
    assert sum(len(frame.data) for frame in far.frames(DataFrame)) == 7


def test_r_23_reading_raises_the_credit_by_half_a_window():
    window = 256 * KIB
    far = settled(channel_window=window)
    half = window // 2
    for start in range(0, half, 1024):
        far.feed(data(0, start, bytes(1024)))
    far.settle()
    assert far.connection.read(0, half - 1, far.now) is not None
    got = half
    while got > 0 and (piece := far.connection.read(0, got, far.now)):
        got -= len(piece)
    assert ChannelCreditFrame(0, window + half) in far.frames(ChannelCreditFrame)


def test_r_23_a_slow_reader_costs_a_window_and_stalls_no_other_channel():
    config = RudpConfig(channel_window=256 * KIB, connection_window=1 << 20)
    pair = Pair(config=config)
    a, b = pair.a.connection, pair.b.connection
    slow, quick = a.open_channel(pair.now), a.open_channel(pair.now)
    written = {slow: 0, quick: 0}
    got = 0
    for _ in range(400):
        for channel in (slow, quick):
            written[channel] += a.send(channel, bytes(64 * KIB), pair.now)
        pair.run_for(0.02)
        if len(pair.b.events_of(ChannelOpened)) == 2:
            while piece := b.read(quick, 1 << 20, pair.now):
                got += len(piece)
    assert got > 10 << 20
    held = b._channels.find(slow)
    assert held is not None
    assert held.incoming.highest == 256 * KIB
    assert written[slow] == 256 * KIB + RudpConfig().send_buffer


def test_r_24_a_lost_packet_holds_up_its_own_channel_only():
    far = settled()
    far.feed(data(0, 1, b"ehind a hole"))
    far.feed(data(2, 0, b"in order"))
    assert [event for event in far.events() if isinstance(event, ChannelReadable)] == [
        ChannelReadable(2)
    ]
    assert far.connection.read(2, 100, far.now) == b"in order"
    assert far.connection.read(0, 100, far.now) is None
    far.feed(data(0, 0, b"b"))
    assert far.connection.read(0, 100, far.now) in (b"b", b"behind a hole")


def test_r_25_each_direction_ends_by_itself():
    pair = Pair()
    a, b = pair.a.connection, pair.b.connection
    channel = a.open_channel(pair.now)
    a.send(channel, b"question", pair.now)
    a.finish(channel, pair.now)
    pair.run_for(0.1)
    assert b.read(channel, 100, pair.now) == b"question"
    assert b.read(channel, 100, pair.now) == b""
    assert ChannelDelivered(channel) in pair.a.events
    assert b.send(channel, b"answer", pair.now) == 6
    pair.run_for(0.1)
    assert a.read(channel, 100, pair.now) == b"answer"
    assert a.read(channel, 100, pair.now) is None
    b.finish(channel, pair.now)
    pair.run_for(0.1)
    assert a.read(channel, 100, pair.now) == b""
    assert a.statistics().channels_open == b.statistics().channels_open == 0


@pytest.mark.parametrize(
    "frames",
    [
        [data(0, 0, b"abc", fin=True), data(0, 3, b"d")],
        [data(0, 0, b"abc", fin=True), data(0, 3, b"d", fin=True)],
        [data(0, 0, b"abc"), data(0, 0, b"ab", fin=True)],
        [data(0, 0, b"abc", fin=True), encode_reset(0, 1, 4)],
        [data(0, 0, b"abc"), encode_reset(0, 1, 2)],
    ],
)
def test_r_26_a_final_size_that_changes_closes_with_final_size(frames):
    far = settled()
    for frame in frames:
        far.feed(frame)
    closed = far.closed()
    assert closed is not None
    assert closed.code == CloseCode.FINAL_SIZE


def test_r_27_a_reset_drops_what_was_not_read():
    far = settled()
    far.feed(data(0, 0, b"abc"), encode_reset(0, 77, 10))
    assert ChannelReset(0, 77) in far.events()
    assert far.connection.read(0, 100, far.now) is None
    far.feed(encode_reset(0, 77, 10))
    assert far.events() == []


def test_r_27_a_reset_after_all_bytes_changes_nothing():
    far = settled()
    far.feed(data(0, 0, b"abc", fin=True), encode_reset(0, 77, 3))
    assert not [event for event in far.events() if isinstance(event, ChannelReset)]
    assert far.connection.read(0, 100, far.now) == b"abc"
    assert far.connection.read(0, 100, far.now) == b""


def test_r_27_the_credit_of_bytes_that_a_reset_dropped_comes_back():
    far = FarEnd(config=RudpConfig(channel_window=256 * KIB, connection_window=1 << 20))
    far.settle()
    for channel in (0, 2, 4, 6):
        far.feed(encode_reset(channel, 1, 256 * KIB))
    limits = [frame.limit for frame in far.frames(ConnectionCreditFrame)]
    assert limits[-1] == 2 << 20


def test_r_28_stop_reading_is_answered_with_reset_and_the_same_code():
    pair = Pair()
    a, b = pair.a.connection, pair.b.connection
    channel = a.open_channel(pair.now)
    a.send(channel, bytes(100), pair.now)
    pair.run_for(0.1)
    b.stop_reading(channel, 5, pair.now)
    pair.run_for(0.1)
    assert ChannelStopped(channel, 5) in pair.a.events
    assert a.send(channel, b"more", pair.now) == 0
    assert not pair.b.events_of(ChannelReset)
    b.finish(channel, pair.now)
    pair.run_for(0.1)
    assert b.statistics().channels_open == 0


def test_r_28_what_arrives_after_stop_reading_is_dropped_and_credited():
    far = FarEnd(config=RudpConfig(channel_window=256 * KIB, connection_window=1 << 20))
    far.settle()
    far.feed(data(0, 0, b"a"))
    far.connection.stop_reading(0, 9, far.now)
    assert far.frames(StopReadingFrame) == [StopReadingFrame(0, 9)]
    for start in range(1, 256 * KIB - 1024, 1024):
        far.feed(data(0, start, bytes(1024)))
    assert far.connection.read(0, 100, far.now) is None
    far.feed(data(0, 256 * KIB - 1, b"", fin=True))
    assert far.connection._channels.flow.credit.consumed == 256 * KIB - 1


def test_r_29_frames_for_a_channel_that_is_over_are_ignored():
    far = settled()
    far.feed(data(0, 0, b"abc", fin=True))
    assert far.connection.read(0, 9, far.now) == b"abc"
    assert far.connection.read(0, 9, far.now) == b""
    far.connection.finish(0, far.now)
    far.settle()
    far.events()
    assert far.connection.statistics().channels_open == 0
    far.feed(
        data(0, 0, b"abc", fin=True),
        encode_reset(0, 1, 3),
        encode_stop_reading(0, 1),
        encode_channel_credit(0, 1 << 30),
    )
    assert far.events() == []
    assert far.connection.read(0, 9, far.now) is None


def test_r_30_a_peer_that_makes_thousands_of_holes_is_shown_out():
    far = settled(max_gaps=10)
    for place in range(1, 21, 2):
        far.feed(data(0, place, b"x"))
    assert far.closed() is None
    far.feed(data(0, 21, b"x"))
    closed = far.closed()
    assert closed is not None
    assert closed.code == CloseCode.PROTOCOL_VIOLATION


def held_after(far: FarEnd, payloads: Iterator[bytes]) -> int:
    """Return the bytes of memory that packets full of these frames leave behind."""

    def fill(limit: int) -> None:
        frames: list[bytes] = []
        size = sent = 0
        for frame in payloads:
            if size + len(frame) > packet.BASE_PACKET_SIZE - packet.OVERHEAD:
                far.feed(*frames)
                far.sent()
                far.events()
                frames, size, sent = [], 0, sent + 1
                if sent == limit or far.connection.state is not ConnectionState.OPEN:
                    return
            frames.append(frame)
            size += len(frame)

    # What every connection costs is there before the measurement starts.
    fill(20)
    tracemalloc.start()
    try:
        fill(1_000_000)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_r_30_islands_of_one_byte_cost_less_than_the_window_they_are_charged_to():
    far = settled(channel_window=256 * KIB, connection_window=1024 * KIB)
    islands = (
        data(channel_id, place, b"x")
        for channel_id in range(0, 128, 2)
        for place in range(1, 8192, 2)
    )
    assert held_after(far, islands) < 3 * 1024 * KIB
    closed = far.closed()
    assert far.connection.state is not ConnectionState.OPEN or closed is not None


def test_r_30_holes_that_closed_are_not_counted_any_more():
    far = settled(max_gaps=10)
    for channel_id in range(0, 40, 2):
        for place in (1, 3, 5):
            far.feed(data(channel_id, place, b"x"))
        if channel_id % 4:
            far.feed(data(channel_id, 0, b"abcdef"))
        else:
            far.feed(encode_reset(channel_id, 1, 10))
    assert far.closed() is None


@pytest.mark.parametrize("size", [1, 2, 17])
def test_r_30_small_pieces_that_nobody_reads_cost_what_they_hold(size):
    far = settled(channel_window=256 * KIB, connection_window=1024 * KIB)
    limit = 16 * KIB
    pieces = (
        data(channel_id, place, bytes(size))
        for place in range(0, limit - size, size)
        for channel_id in (0, 2)
    )
    assert held_after(far, pieces) < 3 * 2 * limit
    assert far.connection.state is ConnectionState.OPEN
    assert far.connection.read(0, limit, far.now) != b""


# --- datagrams ------------------------------------------------------------------------


def test_r_31_the_longest_datagram_fills_a_packet_and_a_longer_one_is_refused():
    far = settled()
    assert far.connection.send_datagram(bytes(1163), far.now)
    (burst,) = far.connection.datagrams_to_send(far.now)
    assert len(burst.data) == packet.BASE_PACKET_SIZE
    with pytest.raises(LocalProtocolError, match="1163"):
        far.connection.send_datagram(bytes(1164), far.now)


def test_r_31_the_longest_datagram_leaves_although_an_acknowledgement_waits():
    far = settled()
    far.feed(encode_datagram(b"x"))
    far.connection.send_datagram(bytes(1163), far.now)
    assert len(far.frames(DatagramFrame)) == 1
    far.wait(0.005)
    assert len(far.frames(AckFrame)) == 1


def test_r_31_datagrams_that_find_no_room_are_refused_or_counted():
    far = settled(max_datagrams=3)
    taken = [far.connection.send_datagram(b"x", far.now) for _ in range(5)]
    assert taken == [True, True, True, False, False]
    for number in range(5):
        far.feed(encode_datagram(bytes([number])))
    assert far.events() == [DatagramReceived(bytes([number])) for number in range(3)]
    assert far.connection.statistics().datagrams_dropped == 2


# --- path -----------------------------------------------------------------------------


def test_r_32_the_newest_packet_s_source_becomes_the_path_when_it_answers():
    far = settled()
    far.feed(encode_datagram(b"x"), source=ELSEWHERE)
    assert far.connection.statistics().path == THERE
    assert far.connection.statistics().candidate_path == ELSEWHERE
    far.answer(ELSEWHERE)
    assert PathChanged(ELSEWHERE) in far.events()
    assert PingFrame(0) in far.sent_to(ELSEWHERE)


def test_r_32_another_host_starts_round_trip_and_window_anew():
    far = settled()
    far.acknowledge(*sent_pings(far, 1)[:1])
    numbers = sent_pings(far, 12)
    far.acknowledge(*numbers[3:6])
    neighbour = THERE._replace(port=9)
    far.feed(encode_ping(0), source=neighbour)
    far.answer(neighbour)
    figures = far.connection.statistics()
    assert (figures.path, figures.smoothed_rtt_s is None) == (neighbour, False)
    far.feed(encode_ping(0), source=ELSEWHERE)
    far.answer(ELSEWHERE)
    figures = far.connection.statistics()
    assert (figures.path, figures.smoothed_rtt_s) == (ELSEWHERE, None)
    assert figures.congestion_window == 32 * packet.BASE_PACKET_SIZE


def test_r_32_a_forged_packet_moves_nothing():
    far = settled()
    wire = bytearray(far.packet(encode_ping(1)))
    wire[-1] ^= 1
    far.arrive(bytes(wire), source=ELSEWHERE)
    assert far.connection.statistics().path == THERE


def test_r_33_an_older_packet_from_elsewhere_moves_nothing():
    far = settled()
    late = far.packet(encode_datagram(b"late"))
    far.feed(encode_datagram(b"newest"))
    far.arrive(late, source=ELSEWHERE)
    far.answer(ELSEWHERE)
    assert far.connection.statistics().path == THERE
    assert far.connection.statistics().candidate_path is None


def test_r_33_a_mere_probe_from_elsewhere_is_answered_and_moves_nothing():
    far = settled()
    far.feed(encode_path_challenge(b"question"), source=ELSEWHERE)
    frames = far.sent_to(ELSEWHERE)
    assert PathResponseFrame(b"question") in frames
    (challenge,) = (f for f in frames if isinstance(f, PathChallengeFrame))
    far.feed(encode_path_response(challenge.token), source=ELSEWHERE)
    assert far.connection.statistics().path == THERE
    assert len(far.connection.paths()) == 2


def test_r_33_the_path_that_the_peer_is_on_wins_over_copies_with_the_same_id():
    far = settled()
    far.feed(encode_datagram(b"copied"), source=ELSEWHERE)
    challenges = far.frames(PathChallengeFrame)
    assert len(challenges) == 2
    for challenge in challenges:
        far.feed(encode_path_response(challenge.token), source=THERE)
    assert far.connection.statistics().path == THERE
    far.feed(encode_datagram(b"again"), source=ELSEWHERE)
    assert not [f for f in far.sent_to(ELSEWHERE) if isinstance(f, PathChallengeFrame)]


def test_r_32_data_goes_on_after_the_peer_s_address_changed():
    pair = Pair()
    channel = pair.a.connection.open_channel(pair.now)
    pair.a.connection.send(channel, bytes(300 * KIB), pair.now)
    pair.run_for(0.03)
    pair.a.endpoint = ELSEWHERE
    pair.drive(lambda: bool(pair.b.events_of(PathChanged)))
    got = 0

    def read_all() -> bool:
        nonlocal got
        while piece := pair.b.connection.read(channel, 1 << 20, pair.now):
            got += len(piece)
        return got == 300 * KIB

    pair.drive(read_all)


def bytes_to(far: FarEnd, endpoint: Endpoint) -> int:
    """Take all bursts; returns how many bytes went there."""
    size = 0
    while bursts := far.connection.datagrams_to_send(far.now):
        size += sum(len(b.data) for b in bursts if b.destination == endpoint)
    return size


def with_much_to_send() -> FarEnd:
    far = settled()
    channel = far.connection.open_channel(far.now)
    far.connection.send(channel, bytes(200 * KIB), far.now)
    return far


def test_r_39_an_unproven_address_gets_three_times_what_came_from_it():
    far = with_much_to_send()
    moved = far.packet(encode_ping(0))
    far.arrive(moved, source=ELSEWHERE)
    sent = 0
    for _ in range(3):
        sent += bytes_to(far, ELSEWHERE)
        far.wait(1.0)
    assert 0 < sent <= 3 * len(moved)
    full = far.packet(encode_datagram(bytes(1100)))
    far.arrive(full, source=ELSEWHERE)
    sent += bytes_to(far, ELSEWHERE)
    assert len(full) < sent <= 3 * (len(moved) + len(full))


def test_r_39_an_address_that_never_answers_is_given_up_after_three_challenges():
    far = settled()
    far.feed(encode_datagram(bytes(1100)), source=ELSEWHERE)
    asked = 0
    for _ in range(10):
        frames = far.sent_to(ELSEWHERE)
        asked += sum(isinstance(frame, PathChallengeFrame) for frame in frames)
        far.wait(1.0)
    assert asked == 3
    assert [path.endpoint for path in far.connection.paths()] == [THERE]


def test_r_39_an_answer_that_was_guessed_proves_nothing():
    far = settled()
    far.feed(encode_ping(0), source=ELSEWHERE)
    bytes_to(far, ELSEWHERE)
    far.feed(encode_path_response(bytes(8)), source=ELSEWHERE)
    assert far.connection.statistics().path == THERE


def test_r_39_a_flood_of_challenges_is_answered_in_part():
    far = settled()
    far.feed(*(encode_path_challenge(bytes([n] * 8)) for n in range(100)))
    assert len(far.frames(PathResponseFrame)) <= 4


def test_r_63_another_id_of_the_peer_is_answered_with_another_id():
    far = settled()
    far.use_id(1)
    far.feed(encode_datagram(b"x"), source=ELSEWHERE)
    far.answer(ELSEWHERE)
    assert far.connection.statistics().path == ELSEWHERE
    first = far.connection.datagrams_to_send(far.now)[0].data
    assert first[: packet.PREFIX_SIZE] == far.own_id(1).prefix
    assert LocalIdsChanged() in far.events()
    assert far.its_ids[5].wire_id in far.connection.local_ids


def test_r_63_ids_far_above_those_in_use_are_not_accepted():
    far = settled()
    far.use_id(5)
    far.feed(encode_datagram(b"x"))
    assert far.connection.statistics().malformed == 1


# --- life -----------------------------------------------------------------------------


def test_r_34_close_is_repeated_three_times_and_then_forgotten():
    far = settled()
    far.connection.close(7, "enough", far.now)
    assert far.events() == [Closed(7, "enough", Side.LOCAL)]
    closes = []
    for _ in range(8):
        closes += far.frames(CloseFrame)
        deadline = far.connection.next_deadline()
        if deadline is None:
            break
        far.now = deadline
        far.connection.handle_deadline(far.now)
    assert closes == [CloseFrame(7, "enough")] * 3
    assert far.connection.state is ConnectionState.TERMINATED
    far.feed(encode_ping(1))
    far.connection.close(8, "again", far.now)
    assert far.sent() == []
    assert far.events() == []


def test_r_34_a_packet_of_the_peer_is_answered_with_close():
    far = settled()
    far.connection.close(7, "enough", far.now)
    assert len(far.frames(CloseFrame)) == 1
    for _ in range(5):
        far.feed(encode_datagram(b"did you hear"))
    assert len(far.frames(CloseFrame)) == 1
    assert far.events() == [Closed(7, "enough", Side.LOCAL)]


def test_r_35_the_peer_s_close_is_answered_once():
    pair = Pair()
    pair.run_for(0.5)
    pair.a.connection.close(3, "x" * 300, pair.now)
    pair.run_for(5.0)
    assert pair.a.events[-1] == Closed(3, "x" * 300, Side.LOCAL)
    assert pair.b.events[-1] == Closed(3, "x" * 256, Side.PEER)
    for end in (pair.a, pair.b):
        assert end.connection.state is ConnectionState.TERMINATED
        assert end.connection.next_deadline() is None


def test_r_35_the_first_answer_ends_the_repetition():
    far = settled()
    far.connection.close(0, "", far.now)
    far.sent()
    far.feed(encode_close(0, ""))
    assert far.connection.state is ConnectionState.TERMINATED


def test_r_35_nothing_but_one_answer_is_sent_after_the_peer_s_close():
    far = settled()
    far.feed(encode_close(1, "bye"))
    assert far.events() == [Closed(1, "bye", Side.PEER)]
    assert len(far.sent()) == 1
    far.feed(encode_ping(1))
    far.feed(b"\xff")
    assert far.sent() == []
    assert far.events() == []
    assert far.connection.send(0, b"x", far.now) == 0
    with pytest.raises(LocalProtocolError, match="draining"):
        far.connection.open_channel(far.now)


def test_r_36_after_90_s_of_silence_the_connection_is_over_without_a_word():
    far = settled()
    far.wait(89.0)
    far.sent()
    assert far.closed() is None
    far.wait(1.1)
    closed = far.closed()
    assert closed is not None
    assert (closed.code, closed.by) == (CloseCode.IDLE_TIMEOUT, Side.NETWORK)
    assert far.sent() == []
    assert far.connection.next_deadline() is None


def test_r_37_an_idle_connection_sends_a_ping_and_an_answer_in_20_s():
    pair = Pair()
    pair.run_for(5.0)
    counted: list[int] = []

    def count(end: End, burst: Transmission) -> list[bytes]:
        counted.append(len(burst.data))
        return [burst.data]

    pair.on_transmission = count
    pair.run_for(300.0)
    assert 300 / 25 * 2 <= len(counted) <= 300 / 20 * 2 + 2
    assert sum(counted) / 300 < 8
    assert not pair.a.events_of(Closed)


def test_r_37_without_keep_alive_nothing_is_sent():
    pair = Pair(config=RudpConfig(keep_alive_s=0))
    pair.run_for(5.0)
    before = pair.a.connection.statistics().packets_sent
    pair.run_for(60.0)
    assert pair.a.connection.statistics().packets_sent == before


def test_r_38_a_peer_that_breaks_a_rule_ends_its_own_connection_only():
    good, bad = Pair(), Pair(seed=2)
    bad.run_for(0.5)
    bad.a.connection._controls.waiting[(FrameType.PADDING, 0)] = None
    # A peer gone mad.
    bad.a.connection._controls.encoders[FrameType.PADDING] = lambda _: b"\xee"
    bad.run_for(1.0)
    assert isinstance(bad.b.events[-1], Closed)
    assert bad.b.events[-1].by is Side.LOCAL
    assert isinstance(bad.a.events[-1], Closed)
    assert bad.a.events[-1].by is Side.PEER
    ping = good.a.connection.ping(good.now)
    good.run_for(0.2)
    assert [event.ping_id for event in good.a.events_of(PingAcknowledged)] == [ping]


def test_a_ping_measures_the_round_trip():
    pair = Pair(link=LinkConfig(latency_s=0.04))
    pair.run_for(1.0)
    ping = pair.a.connection.ping(pair.now)
    pair.run_for(0.1)
    (event,) = pair.a.events_of(PingAcknowledged)
    assert (event.ping_id, event.rtt_s) == (ping, pytest.approx(0.08))


def test_small_writes_leave_at_once_and_join_when_the_window_is_full():
    pair = Pair(link=LinkConfig(latency_s=0.05))
    pair.run_for(0.5)
    a = pair.a.connection
    channel = a.open_channel(pair.now)
    a.send(channel, b"now", pair.now)
    assert a.datagrams_to_send(pair.now) != []
    for _ in range(2000):
        a.send(channel, bytes(100), pair.now)
        pair.flush()
    sent_at_once = a.statistics().packets_sent
    pair.run_for(5.0)
    assert sent_at_once < 600
    assert a.statistics().packets_sent - sent_at_once < 2000 * 100 / 1000


def test_two_runs_with_one_seed_send_the_same_bytes():
    digests = []
    for _ in range(2):
        pair = Pair(link=LinkConfig(loss=0.1, jitter_s=0.01, duplication=0.1), seed=9)
        seen: list[bytes] = []

        def record(
            end: End, burst: Transmission, seen: list[bytes] = seen
        ) -> list[bytes]:
            seen.append(burst.data)
            return [burst.data]

        pair.on_transmission = record
        channel = pair.a.connection.open_channel(pair.now)
        pair.a.connection.send(channel, random.Random(4).randbytes(50_000), pair.now)
        pair.run_for(3.0)
        digests.append(hash(tuple(seen)))
    assert digests[0] == digests[1]


def test_another_seed_of_the_rng_moves_only_the_keep_alive():
    keys, _ = seeded_keys()
    config = replace(RudpConfig(), keep_alive_s=10.0)
    deadlines = set()
    for seed in range(20):
        connection = RudpConnection(
            initiator=True, keys=keys, config=config, rng=random.Random(seed)
        )
        connection.set_path(THERE, 0.0)
        deadline = connection.next_deadline()
        assert deadline is not None
        assert 7.75 <= deadline <= 10.0
        deadlines.add(deadline)
    assert len(deadlines) >= 5


def test_r_70_an_urgent_channel_overtakes_bulk_that_was_written_before():
    pair = Pair()
    bulk, urgent = (pair.a.connection.open_channel(pair.now) for _ in range(2))
    pair.run_for(1.0)
    pair.a.connection.set_urgency(urgent, 0, pair.now)
    pair.a.connection.send(bulk, bytes(8 << 20), pair.now)
    pair.flush()
    pair.a.connection.send(urgent, b"now", pair.now)
    read = b""

    def has_come() -> bool:
        nonlocal read
        read += pair.b.connection.read(urgent, 10, pair.now) or b""
        return read == b"now"

    pair.drive(has_come, within_s=0.5)
    assert pair.a.connection.statistics().bytes_in_flight > 0


def test_r_71_a_busy_channel_is_granted_ever_more_and_an_idle_one_nothing():
    pair = Pair(link=LinkConfig(latency_s=0.05))
    busy = pair.a.connection.open_channel(pair.now)
    idle = pair.a.connection.open_channel(pair.now)
    pair.run_for(0.5)
    limits = []
    for _ in range(100):
        pair.a.connection.send(busy, bytes(1 << 20), pair.now)
        pair.run_for(0.02)
        while pair.b.connection.read(busy, 1 << 20, pair.now):
            pair.flush()
        limits.append(pair.b.connection._channels._channels[busy].credit.window)
    assert limits[0] == INITIAL_CHANNEL_CREDIT
    assert limits[-1] == RudpConfig().channel_window
    credit = pair.b.connection._channels._channels[idle].credit
    assert credit.limit == INITIAL_CHANNEL_CREDIT


def test_r_71_readers_that_were_fast_and_stop_leave_room_for_a_new_channel():
    pair = Pair(link=LinkConfig(latency_s=0.01))
    slow = [pair.a.connection.open_channel(pair.now) for _ in range(3)]
    pair.run_for(0.5)
    for _ in range(30):
        for channel in slow:
            pair.a.connection.send(channel, bytes(1 << 20), pair.now)
        pair.run_for(0.01)
        for channel in slow:
            while pair.b.connection.read(channel, 1 << 20, pair.now):
                pair.flush()
    # From here on nobody reads them, while their sender goes on.
    for channel in slow:
        pair.a.connection.send(channel, bytes(10 << 20), pair.now)
    pair.run_for(5.0)
    flow = pair.b.connection._channels.flow
    held = flow.credit.received - flow.credit.consumed
    assert 4 << 20 < held < 14 << 20
    fresh = pair.a.connection.open_channel(pair.now)
    payload, read = bytes(3 << 20), 0
    assert pair.a.connection.send(fresh, payload, pair.now) == len(payload)

    def is_read() -> bool:
        nonlocal read
        while data := pair.b.connection.read(fresh, 1 << 20, pair.now):
            read += len(data)
            pair.flush()
        return read == len(payload)

    pair.run_for(0.1)
    pair.drive(is_read, within_s=5.0)


def test_two_thousand_channels_at_once_all_arrive_whole():
    pair = Pair(link=LinkConfig(latency_s=0.005, loss=0.01))
    pair.run_for(0.1)
    payloads = {}
    for index in range(2000):
        channel = pair.a.connection.open_channel(pair.now)
        payloads[channel] = index.to_bytes(4, "big") * (1 + index % 300)
        pair.a.connection.send(channel, payloads[channel], pair.now)
        pair.a.connection.finish(channel, pair.now)
    found = dict.fromkeys(payloads, b"")
    ended = set()

    def are_all_read() -> bool:
        for event in pair.b.events:
            if isinstance(event, ChannelReadable):
                number = event.channel_id
                while data := pair.b.connection.read(number, 1 << 20, pair.now):
                    found[number] += data
                if data == b"":
                    ended.add(number)
                    pair.b.connection.finish(number, pair.now)
        pair.b.events.clear()
        pair.flush()
        return len(ended) == 2000

    pair.drive(are_all_read, within_s=30.0)
    assert found == payloads
    pair.run_for(1.0)
    for number in payloads:
        assert pair.a.connection.read(number, 1, pair.now) == b""
    assert pair.a.connection.statistics().channels_open == 0
    assert pair.b.connection.statistics().channels_open == 0
