"""What strangers and hostile peers can make a connection do, counted, not timed.

Rules R-90 and following of docs/protocols/rudp.md, and the limits that other rules set.
"""

import gc
import random
import sys
import tracemalloc
from collections import Counter

import pytest

from opnode.core.addresses import Endpoint
from opnode.protocols.rudp import packet
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.events import (
    ChannelReadable,
    ChannelsAvailable,
    Closed,
    DatagramRoom,
    LocalIdsChanged,
)
from opnode.protocols.rudp.frames import (
    INITIAL_CHANNEL_COUNT,
    INITIAL_CHANNEL_CREDIT,
    DataFrame,
    PathChallengeFrame,
    encode_ack,
    encode_ack_frequency,
    encode_channel_count,
    encode_channel_credit,
    encode_close,
    encode_connection_credit,
    encode_data,
    encode_key_share,
    encode_path_challenge,
    encode_path_response,
    encode_ping,
    encode_reset,
    encode_stop_reading,
    parse_frames,
)
from opnode.protocols.rudp.lifetime import ConnectionState
from opnode.protocols.rudp.packet_keys import PacketKeys
from opnode.protocols.rudp.violation import CloseCode
from opnode.testing.pair import LinkConfig, Pair, seeded_keys
from tests.unit.protocols.rudp.far_end import ELSEWHERE, THERE, FarEnd

CONFIG = RudpConfig()
ROOM = packet.BASE_PACKET_SIZE - packet.OVERHEAD
# Packets that hold nothing of use, before a connection has enough.
LONE_PACKETS = CONFIG.work_burst // 4


class CountingKeys:
    """Keys that tell how often somebody tried to open a packet."""

    def __init__(self, keys):
        self._keys = keys
        self.tries = 0

    def __getattr__(self, name):
        if name.startswith(("decrypt", "open")):
            self.tries += 1
        return getattr(self._keys, name)


def counted(far: FarEnd) -> CountingKeys:
    keys = CountingKeys(far.connection._receiver._keys)
    far.connection._receiver._keys = keys
    return keys


def settled(**options) -> FarEnd:
    far = FarEnd(**options)
    far.settle()
    far.events()
    return far


def header(far: FarEnd, number: int) -> bytes:
    wire = (number + far.its_id.offset) & packet.WIRE_NUMBER_MASK
    return packet.pack_header(far.its_id.prefix, wire)


class Flood:
    """Packets of a peer until it is cut off; counts what they cause."""

    def __init__(self, far: FarEnd) -> None:
        self.far = far
        self.arrived = self.bytes_in = self.answers = self.bytes_out = 0
        self.most_events = 0

    def send(self, *frames: bytes) -> None:
        wire = self.far.packet(*frames)
        self.arrived += 1
        self.bytes_in += len(wire)
        self.far.arrive(wire)
        self.most_events = max(
            self.most_events, len(self.far.connection._events._events)
        )
        while bursts := self.far.connection.datagrams_to_send(self.far.now):
            for burst in bursts:
                self.bytes_out += len(burst.data)
                self.answers += -(-len(burst.data) // burst.segment_size)

    @property
    def is_over(self) -> bool:
        return self.far.connection.state is not ConnectionState.OPEN


def cut_off_after(make_frames, *, limit: int = 2 * LONE_PACKETS) -> Flood:
    """Flood a connection until it closes, at most `limit` packets."""
    flood = Flood(settled())
    for index in range(limit):
        flood.send(make_frames(index))
        if flood.is_over:
            break
    closed = flood.far.closed()
    assert closed is not None, f"{flood.arrived} packets were all borne"
    assert closed.code == CloseCode.EXCESSIVE_WORK
    return flood


def memory_of(work) -> int:
    """Bytes that are still held after some work."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.take_snapshot()
        held = work()
        gc.collect()
        after = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    del held
    return sum(change.size_diff for change in after.compare_to(before, "filename"))


def lines_of(work) -> int:
    """Lines of Python that some work runs through."""
    lines = 0

    def trace(_frame, event, _argument):
        nonlocal lines
        lines += event == "line"
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(previous)
    return lines


# --- strangers ------------------------------------------------------------------------


def test_r_90_a_forger_who_knows_the_id_alone_makes_us_open_nothing():
    far, dice = settled(), random.Random(1)
    keys = counted(far)
    for _ in range(1000):
        wire = header(far, dice.getrandbits(54)) + dice.randbytes(100)
        far.arrive(wire, source=ELSEWHERE)
    assert keys.tries == 0
    far.arrive(header(far, far.next_number) + bytes(100))
    assert keys.tries == 1, "a guess of the number is tried"
    assert far.sent() == []
    assert far.connection.statistics().packets_received == far.next_number


def test_r_90_a_packet_that_was_seen_is_not_opened_again():
    far = settled()
    wire = far.packet(encode_ping(1))
    far.arrive(wire)
    keys = counted(far)
    for _ in range(1000):
        far.arrive(wire)
    assert keys.tries == 0
    assert far.connection.statistics().duplicates == 1000


def test_r_90_a_packet_just_within_reach_is_taken():
    far = settled()
    newest = far.connection._acks.next_number
    far.feed(encode_ping(1), number=newest + packet.MAX_AHEAD)
    assert far.connection.statistics().packets_received == newest + 1
    far.feed(encode_ping(1), number=newest + 2 * packet.MAX_AHEAD + 2)
    assert far.connection.statistics().packets_received == newest + 1


def test_forgeries_and_replays_are_never_answered_and_leave_nothing_behind():
    far, dice = settled(), random.Random(2)
    genuine = far.packet(encode_data(0, 0, bytes(900), fin=False))
    far.arrive(genuine)
    far.settle()
    far.events()
    far.wait(1)
    far.settle()

    def storm():
        for index in range(3000):
            number = far.next_number + index % 50
            far.arrive(header(far, number) + dice.randbytes(1183))
            far.arrive(genuine)
            far.arrive(dice.randbytes(300))

    assert memory_of(storm) < 20_000
    # A replay may be told to the peer, as its ACK may have been lost; here it was not.
    assert len(far.sent()) <= 1
    assert far.events() == []


@pytest.mark.parametrize("source", [THERE, ELSEWHERE])
def test_nobody_without_the_keys_can_close_or_reset(source):
    far, stranger = settled(), settled()
    keys, _ = seeded_keys(99)
    stranger._sealer.keys = PacketKeys(keys, initiator=True, config=CONFIG)
    for frame in (encode_close(0, ""), encode_reset(0, 0, 0)):
        for number in range(far.next_number, far.next_number + 100):
            far.arrive(stranger.packet(frame, number=number), source=source)
    assert far.connection.state is ConnectionState.OPEN
    assert far.events() == []
    assert far.sent() == []


def test_one_close_of_a_peer_is_answered_once_however_often_it_comes():
    far = settled()
    wire = far.packet(encode_close(0, "bye"))
    for _ in range(500):
        far.arrive(wire)
    assert len(far.sent()) == 1


# --- a peer that makes us work for nothing --------------------------------------------


def test_r_91_a_flood_of_pings_is_answered_one_by_one_at_most_and_cut_off():
    flood = cut_off_after(encode_ping)
    assert flood.arrived <= CONFIG.work_burst // 5 + 1
    assert flood.answers <= flood.arrived + 1


def test_r_91_many_pings_in_one_packet_count_one_by_one():
    flood = cut_off_after(lambda _: encode_ping(0) * (ROOM // 5))
    assert flood.arrived <= CONFIG.work_burst // (ROOM // 5) + 1


def test_r_91_data_does_not_pay_for_the_pings_beside_it():
    flood = cut_off_after(
        lambda index: encode_ping(0) * 200 + encode_data(0, index, b"x", fin=False)
    )
    assert flood.arrived <= CONFIG.work_burst // 200 + 1


def test_r_91_the_same_byte_again_and_again_counts_frame_by_frame():
    frames = ROOM // len(encode_data(0, 9, b"x", fin=False))
    flood = cut_off_after(lambda _: encode_data(0, 9, b"x", fin=False) * frames)
    assert flood.arrived <= CONFIG.work_burst // frames + 2


def test_r_91_a_packet_sent_again_needlessly_is_no_attack():
    far = settled()
    for _ in range(2 * LONE_PACKETS):
        far.feed(encode_data(0, 0, bytes(1000), fin=False))
        far.sent()
    assert far.connection.state is ConnectionState.OPEN


def test_r_92_a_flood_of_padding_is_cut_off():
    flood = cut_off_after(lambda _: bytes(ROOM))
    assert flood.arrived <= LONE_PACKETS + 1
    assert flood.answers <= 1


def test_r_92_padding_is_skipped_at_once_also_between_frames():
    empty = lines_of(lambda: parse_frames(b"\0"))
    assert lines_of(lambda: parse_frames(bytes(65_000))) <= empty
    one = lines_of(lambda: parse_frames(encode_ping(1)))
    assert lines_of(lambda: parse_frames(bytes(600) + encode_ping(1) + bytes(600))) <= (
        one + 2 * empty
    )


def test_r_91_acknowledgements_of_nothing_are_cut_off():
    ack = encode_ack(0.0, [settled().receipt(0, 1)])
    flood = cut_off_after(lambda _: ack)
    assert flood.arrived <= CONFIG.work_burst // 5 + 1
    assert flood.answers <= 1


@pytest.mark.parametrize(
    "make_frames",
    [
        lambda index: encode_path_challenge(index.to_bytes(8, "big")),
        lambda _: encode_stop_reading(0, 1),
        lambda index: encode_channel_credit(0, INITIAL_CHANNEL_CREDIT + index),
        encode_connection_credit,
        lambda _: encode_data(0, 0, b"", fin=False),
        lambda _: encode_data(0, 9, b"again", fin=False),
    ],
)
def test_r_91_a_flood_of_any_control_frame_is_cut_off(make_frames):
    flood = cut_off_after(make_frames)
    assert flood.arrived <= LONE_PACKETS + 1
    assert flood.answers <= flood.arrived + 1


@pytest.mark.parametrize(
    "make_frames",
    [
        lambda index: encode_key_share(index % 256, bytes(640)),
        lambda index: encode_ack_frequency(index, 1 + index % 65535, index % 7),
        lambda index: encode_ack_frequency(2**32 - 1 - index, 1, 0.0),
    ],
)
def test_key_shares_and_wishes_for_acknowledgements_are_no_way_around(make_frames):
    flood = Flood(settled())
    while not flood.is_over and flood.arrived <= LONE_PACKETS + 1:
        flood.send(make_frames(flood.arrived))
    assert flood.is_over
    assert flood.answers <= flood.arrived + 4


def test_r_91_a_keep_alive_and_a_ping_now_and_then_cost_nothing_in_the_end():
    far = settled()
    for _ in range(20_000):
        far.feed(encode_ping(1))
        far.sent()
        far.now += 0.01
    assert far.connection.state is ConnectionState.OPEN


def test_r_91_a_receiver_of_a_long_transfer_is_never_short_of_work():
    pair = Pair()
    channel = pair.a.connection.open_channel(pair.now)
    text = bytes(1 << 20)
    left = sent = 0
    least = CONFIG.work_burst
    while sent < 40 << 20:
        taken = pair.a.connection.send(channel, text[: len(text) - left], pair.now)
        sent += taken
        pair.run_for(0.02)
        while pair.b.connection.read(channel, 1 << 20, pair.now):
            pass
        for end in (pair.a, pair.b):
            least = min(least, end.connection._work.left)
    assert least > CONFIG.work_burst * 0.99


def test_r_91_a_peer_behind_a_network_that_mixes_packets_up_is_no_attacker():
    link = LinkConfig(latency_s=0.05, jitter_s=0.04, rate_Bps=6e6, queue_bytes=1 << 20)
    pair = Pair(link=link)
    sender = pair.a.connection
    channel = sender.open_channel(pair.now)
    sent, received, size = 0, 0, 5 << 20

    def is_over():
        nonlocal sent, received
        sent += sender.send(channel, bytes(min(1 << 16, size - sent)), pair.now)
        while data := pair.b.connection.read(channel, 1 << 20, pair.now):
            received += len(data)
        return received == size

    pair.drive(lambda: pair.b.connection.statistics().channels_open == 1)
    pair.drive(is_over)


def test_r_34_who_was_cut_off_cannot_keep_us_busy_with_more():
    flood = cut_off_after(lambda _: encode_ping(0) * (ROOM // 5))
    keys = counted(flood.far)
    for _ in range(1000):
        flood.send(encode_ping(0) * (ROOM // 5))
    assert keys.tries <= 64


# --- windows --------------------------------------------------------------------------


def test_credit_byte_by_byte_draws_no_more_packets_than_it_takes():
    far = settled()
    channel = far.connection.open_channel(far.now)
    far.connection.send(channel, bytes(INITIAL_CHANNEL_CREDIT + 5000), far.now)
    for _ in range(2000):
        numbers = [number for number, _ in far.sent()]
        if not numbers:
            break
        far.acknowledge(*numbers)
    drawn = 0
    for index in range(500):
        far.feed(encode_channel_credit(channel, INITIAL_CHANNEL_CREDIT + index + 1))
        sent = far.sent()
        drawn += len(sent)
        if sent:
            far.acknowledge(*(number for number, _ in sent))
    assert drawn <= 2 * 500


def test_credit_that_never_comes_costs_a_buffer_and_no_packet():
    far = settled()
    channel = far.connection.open_channel(far.now)
    taken = 0
    while more := far.connection.send(channel, bytes(1 << 20), far.now):
        taken += more
    assert taken <= CONFIG.send_buffer
    for _ in range(2000):
        numbers = [number for number, _ in far.sent()]
        if not numbers:
            break
        far.acknowledge(*numbers)
        far.wait(0.01)
    far.events()
    idle_packets = 0
    for _ in range(100):
        far.wait(0.1)
        sent = far.sent()
        idle_packets += len(sent)
        far.acknowledge(*(number for number, _ in sent)) if sent else None
    assert idle_packets <= 3


def test_a_window_full_of_holes_costs_what_was_sent_and_is_given_back():
    far = settled()

    def holes():
        for index in range(2000):
            far.feed(encode_data(0, 1 + 2 * index, b"x", fin=False))
            far.sent()

    assert memory_of(holes) < 2000 * 400
    far.feed(encode_data(0, 0, bytes(1100), fin=False))
    far.feed(encode_data(0, 1100, bytes(1100), fin=False))
    assert far.connection._channels._islands.count < 2000


# --- channels -------------------------------------------------------------------------


def test_ten_thousand_channels_at_once_are_refused_and_the_allowed_ones_are_small():
    far = settled()

    def open_all():
        count = 0
        while far.connection.state is ConnectionState.OPEN and count < 10_000:
            far.feed(encode_data(2 * count, 0, b"x", fin=False))
            count += 1
            if count % 50 == 0:
                far.settle()
                far.events()
        return count

    opened = []
    held = memory_of(lambda: opened.append(open_all()))
    assert opened[0] <= CONFIG.max_channels + INITIAL_CHANNEL_COUNT
    assert held < CONFIG.max_channels * 3000
    closed = far.closed()
    assert closed is not None
    assert closed.code == CloseCode.CHANNEL_LIMIT


def test_channels_that_are_opened_and_reset_at_once_are_limited_like_all_others():
    flood = Flood(settled())
    while not flood.is_over and flood.arrived < 20_000:
        channel = 2 * flood.arrived
        flood.send(
            encode_data(channel, 0, b"x", fin=False), encode_reset(channel, 1, 1)
        )
        flood.far.events()
    assert flood.is_over
    assert len(flood.far.connection._channels) <= (
        CONFIG.max_channels + INITIAL_CHANNEL_COUNT
    )


def test_tiny_channels_that_are_served_can_go_on_for_ever():
    pair = Pair()
    done = 0
    for _ in range(100):
        for _ in range(20):
            channel = pair.a.connection.open_channel(pair.now)
            pair.a.connection.send(channel, b"tiny", pair.now)
            pair.a.connection.finish(channel, pair.now)
        pair.run_for(0.1)
        for event in pair.b.events_of(ChannelReadable):
            while pair.b.connection.read(event.channel_id, 100, pair.now):
                pass
            pair.b.connection.finish(event.channel_id, pair.now)
            done += 1
        pair.b.events.clear()
        pair.run_for(0.1)
        for name in (pair.a, pair.b):
            assert not name.events_of(Closed)
        for index in range(20):
            assert pair.a.connection.read(2 * (done - 20 + index), 9, pair.now) == b""
    assert done == 2000
    pair.run_for(1)
    assert len(pair.b.connection._channels) == 0


def test_a_slow_reader_of_one_channel_does_not_stop_another():
    far = settled()
    size = 1000
    for offset in range(0, INITIAL_CHANNEL_CREDIT - size, size):
        far.feed(encode_data(0, offset, bytes(size), fin=False))
        far.sent()
    far.feed(encode_data(2, 0, b"through", fin=False))
    far.sent()
    assert far.connection.read(2, 100, far.now) == b"through"


def test_r_71_twenty_channels_that_nobody_reads_do_not_stop_another():
    pair = Pair()
    sender, reader = pair.a.connection, pair.b.connection
    for _ in range(20):
        sender.send(sender.open_channel(pair.now), bytes(512 * 1024), pair.now)
    pair.run_for(3)
    channel = sender.open_channel(pair.now)
    sender.send(channel, b"through", pair.now)
    pair.run_for(3)
    assert reader.read(channel, 100, pair.now) == b"through"


def test_events_that_nobody_takes_are_bounded():
    far = settled()
    for index in range(2 * CONFIG.max_datagrams):
        far.feed(b"\x0a\x00\x01x" if index else encode_ping(1))
    assert far.connection.statistics().datagrams_dropped >= CONFIG.max_datagrams - 2
    assert len(far.connection._events._events) <= CONFIG.max_datagrams + 1


def test_r_38_nothing_is_raised_when_a_peer_has_filled_the_events_to_the_brim():
    far = settled(config=RudpConfig(max_events=8))
    connection = far.connection
    while connection.send_datagram(b"x", far.now):
        pass
    for count in range(8):
        far.feed(encode_channel_count(10_000 + count))
    far.use_id(2)
    far.feed(encode_ping(0))
    while connection.datagrams_to_send(far.now):
        pass
    kinds = {type(event) for event in far.events()}
    assert kinds == {ChannelsAvailable, LocalIdsChanged, DatagramRoom}


def test_data_frames_in_an_ack_storm_still_arrive():
    flood = Flood(settled())
    for index in range(300):
        flood.send(encode_ack(0.0, [flood.far.receipt(0, 1)]))
        if index % 10 == 0:
            flood.send(encode_data(0, index // 10, b"x", fin=False))
    assert flood.far.connection.read(0, 100, flood.far.now) == b"x" * 30
    assert flood.far.frames(DataFrame) == []


# --- paths ----------------------------------------------------------------------------


def test_r_39_a_peer_that_comes_from_everywhere_is_answered_within_the_budget_of_each():
    far = settled()
    came: Counter[Endpoint] = Counter()
    went: Counter[Endpoint] = Counter()
    for index in range(3000):
        source = Endpoint(f"198.51.{index >> 8}.{index & 255}", 4003)
        wire = far.packet(encode_ping(1))
        came[source] += len(wire)
        far.arrive(wire, source=source)
        while bursts := far.connection.datagrams_to_send(far.now):
            for burst in bursts:
                went[burst.destination] += len(burst.data)
        far.wait(0.01)
        far.events()
    assert len(far.connection.paths()) <= CONFIG.max_paths
    for endpoint, size in went.items():
        if endpoint != THERE:
            assert size <= 3 * came[endpoint]


def test_a_peer_that_jumps_to_and_fro_makes_no_more_events_and_packets_than_it_sends():
    flood = Flood(settled())
    far = flood.far
    for index in range(2000):
        if flood.is_over:
            break
        wire = far.packet(encode_ping(0))
        flood.arrived += 1
        far.arrive(wire, source=(THERE, ELSEWHERE)[index % 2])
        for _, frames in far.sent():
            flood.answers += 1
            for frame in frames:
                if isinstance(frame, PathChallengeFrame):
                    far.feed(encode_path_response(frame.token), source=ELSEWHERE)
                    flood.arrived += 1
        flood.most_events += len(far.events())
        far.now += 0.001
    assert flood.most_events <= flood.arrived
    assert flood.answers <= 2 * flood.arrived
