"""The glue: verbs, deadlines and the contract with the driver."""

import pytest

from opnode.core.errors import LocalProtocolError
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.events import (
    ChannelReadable,
    ChannelWritable,
    Closed,
    PingAcknowledged,
    Side,
)
from opnode.protocols.rudp.frames import (
    ChannelCreditFrame,
    DataFrame,
    PingFrame,
    encode_channel_count,
    encode_datagram,
)
from opnode.protocols.rudp.lifetime import ConnectionState
from opnode.testing.pair import Pair
from tests.unit.protocols.rudp.far_end import ELSEWHERE, THERE, FarEnd


def settled(**settings: float) -> FarEnd:
    far = FarEnd(config=RudpConfig(**settings))
    far.settle()
    far.events()
    return far


def test_a_write_longer_than_the_buffer_is_taken_in_parts():
    pair = Pair(config=RudpConfig(send_buffer=10_000))
    a = pair.a.connection
    channel = a.open_channel(pair.now)
    assert a.send(channel, bytearray(25_000), pair.now) == 10_000
    assert a.send(channel, b"x", pair.now) == 0
    pair.drive(lambda: bool(pair.a.events_of(ChannelWritable)))
    assert a.send(channel, memoryview(bytes(15_000)), pair.now) > 0


def test_a_write_of_wider_items_counts_bytes():
    far = settled()
    channel = far.connection.open_channel(far.now)
    wide = memoryview(bytes(16)).cast("I")
    assert far.connection.send(channel, wide, far.now) == 16


def test_reading_nothing_is_a_mistake_of_the_caller():
    far = settled()
    channel = far.connection.open_channel(far.now)
    with pytest.raises(LocalProtocolError, match="at least 1"):
        far.connection.read(channel, 0, far.now)


@pytest.mark.parametrize("code", [-1, 1 << 32])
def test_codes_have_32_bits(code):
    far = settled()
    channel = far.connection.open_channel(far.now)
    with pytest.raises(LocalProtocolError, match="32 bits"):
        far.connection.reset(channel, code, far.now)
    with pytest.raises(LocalProtocolError, match="32 bits"):
        far.connection.stop_reading(channel, code, far.now)
    with pytest.raises(LocalProtocolError, match="32 bits"):
        far.connection.close(code, "", far.now)


def test_pings_under_way_are_limited_and_a_lost_one_is_repeated():
    far = settled(max_pings=2)
    first = far.connection.ping(far.now)
    second = far.connection.ping(far.now)
    with pytest.raises(LocalProtocolError, match="2 pings"):
        far.connection.ping(far.now)
    assert far.frames(PingFrame) == [PingFrame(first), PingFrame(second)]
    deadline = far.connection.next_deadline()
    assert deadline is not None
    far.now = deadline
    far.connection.handle_deadline(far.now)
    sent = far.sent()
    assert PingFrame(first) in sent[0][1]
    far.acknowledge(sent[0][0])
    acknowledged = [one for one in far.events() if isinstance(one, PingAcknowledged)]
    assert {event.ping_id for event in acknowledged} == {first, second}
    far.connection.ping(far.now)


def test_nothing_works_on_a_closed_connection_and_nothing_breaks():
    far = settled()
    channel = far.connection.open_channel(far.now)
    far.feed(encode_datagram(b"x"))
    far.connection.close(0, "", far.now)
    now = far.now
    for verb in (
        lambda: far.connection.open_channel(now),
        lambda: far.connection.ping(now),
        lambda: far.connection.send_datagram(b"x", now),
    ):
        with pytest.raises(LocalProtocolError, match="closing"):
            verb()
    assert far.connection.send(channel, b"x", now) == 0
    assert far.connection.read(channel, 10, now) is None
    far.connection.finish(channel, now)
    far.connection.reset(channel, 1, now)
    far.connection.stop_reading(channel, 1, now)


def test_what_arrived_can_be_read_after_the_end():
    pair = Pair()
    a, b = pair.a.connection, pair.b.connection
    channel = a.open_channel(pair.now)
    a.send(channel, b"last words", pair.now)
    pair.run_for(0.1)
    a.close(0, "", pair.now)
    pair.run_for(5.0)
    assert b.state is ConnectionState.TERMINATED
    assert b.read(channel, 100, pair.now) == b"last words"
    assert b.read(channel, 100, pair.now) is None


def test_a_connection_without_a_path_closes_without_a_word():
    far = FarEnd(connected=False)
    far.connection.close(5, "never mind", far.now)
    assert far.connection.state is ConnectionState.TERMINATED
    assert far.events() == [Closed(5, "never mind", Side.LOCAL)]


def test_packets_before_the_first_path_are_taken_in_and_their_source_is_known():
    far = FarEnd(connected=False)
    far.feed(encode_datagram(b"early"))
    assert far.connection.statistics().path is None
    assert [path.endpoint for path in far.connection.paths()] == [THERE]
    assert len(far.events()) == 1
    assert far.sent() == []


def test_a_known_round_trip_shortens_the_first_probe_timeout():
    far = FarEnd(connected=False)
    far.connection.set_path(THERE, far.now, rtt_s=0.004)
    far.sent()
    deadline = far.connection.next_deadline()
    assert deadline == pytest.approx(far.now + 0.004 + 4 * 0.002 + 0.005)


def test_setting_the_same_path_again_changes_nothing():
    far = settled()
    far.connection.set_path(THERE, far.now)
    assert far.sent() == []
    far.connection.set_path(ELSEWHERE, far.now)
    far.answer(ELSEWHERE)
    assert far.frames(PingFrame) == [PingFrame(0)]


def test_handling_a_deadline_too_early_does_nothing():
    far = settled()
    for _ in range(3):
        far.connection.handle_deadline(far.now)
    assert far.sent() == []


def test_a_keep_alive_is_sent_once_when_it_is_due():
    far = settled()
    deadline = far.connection.next_deadline()
    assert deadline is not None
    assert 20.0 <= deadline - far.now <= 25.0
    far.now = deadline
    far.connection.handle_deadline(far.now)
    assert far.frames(PingFrame) == [PingFrame(0)]


def test_max_segments_is_at_least_one():
    far = settled()
    far.connection.max_segments = 0
    assert far.connection.max_segments == 1
    far.connection.max_segments = 64
    assert far.connection.max_segments == 64


def test_a_flood_of_events_ends_the_connection():
    far = settled(max_events=3)
    for count in range(200, 210):
        far.feed(encode_channel_count(count))
    assert far.closed() is not None


def test_reading_in_the_middle_of_a_lost_credit_frame_repeats_the_newest_limit():
    far = settled(channel_window=256 * 1024)
    pieces = [bytes([n]) * 1024 for n in range(200)]
    for index, piece in enumerate(pieces):
        far.feed(
            b"\x03" + bytes(4) + (index * 1024).to_bytes(8, "big") + b"\x04\x00" + piece
        )
    far.settle()
    while far.connection.read(0, 100_000, far.now):
        pass
    limits = [frame.limit for frame in far.frames(ChannelCreditFrame)]
    assert limits == [256 * 1024 + 200 * 1024]
    deadline = far.connection.next_deadline()
    assert deadline is not None
    far.now = deadline
    far.connection.handle_deadline(far.now)
    assert [frame.limit for frame in far.frames(ChannelCreditFrame)] == limits


def test_events_say_when_to_read_again():
    pair = Pair()
    a, b = pair.a.connection, pair.b.connection
    channel = a.open_channel(pair.now)
    for _ in range(3):
        a.send(channel, b"x", pair.now)
        pair.run_for(0.1)
    assert len(pair.b.events_of(ChannelReadable)) == 3
    assert b.read(channel, 10, pair.now) == b"xxx"


def test_a_bare_end_mark_is_sent_alone():
    far = settled()
    channel = far.connection.open_channel(far.now)
    far.connection.send(channel, b"x", far.now)
    far.settle()
    far.connection.finish(channel, far.now)
    assert far.frames(DataFrame) == [DataFrame(channel, 1, b"", fin=True)]


def test_a_connection_is_confirmed_by_the_first_authentic_packet():
    far = FarEnd()
    far.arrive(bytes(100))
    assert not far.connection.is_confirmed
    far.feed(encode_datagram(b"x"))
    assert far.connection.is_confirmed


def test_a_forgotten_ping_makes_room_and_no_event():
    far = FarEnd(config=RudpConfig(max_pings=1))
    far.settle()
    forgotten = far.connection.ping(far.now)
    assert not far.connection.may_ping
    far.connection.forget_ping(forgotten)
    assert far.connection.may_ping
    assert far.frames(PingFrame) == []
    sent_before = far.connection.ping(far.now)
    numbers = [number for number, _ in far.sent()]
    far.connection.forget_ping(sent_before)
    far.connection.forget_ping(sent_before)
    far.acknowledge(*numbers)
    assert not [e for e in far.events() if isinstance(e, PingAcknowledged)]
