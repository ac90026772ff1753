"""The short way and the long way of incoming packets."""

import random

import pytest

from opnode.protocols.rudp import receiver
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.frames import (
    BASE_CHUNK_SIZE,
    DATA_HEADER_SIZE,
    encode_data,
    encode_ping,
)
from opnode.protocols.rudp.violation import CloseCode
from tests.unit.protocols.rudp.far_end import THERE, FarEnd

TEXT = random.Random(2).randbytes(40 * BASE_CHUNK_SIZE)


def chunk(index: int, channel: int = 0) -> bytes:
    start = index * BASE_CHUNK_SIZE
    return encode_data(channel, start, TEXT[start : start + BASE_CHUNK_SIZE], fin=False)


def settled() -> FarEnd:
    far = FarEnd()
    far.settle()
    return far


def test_a_run_in_order_takes_the_short_way_past_the_parser(monkeypatch):
    far = settled()
    monkeypatch.setattr(receiver, "parse_frames", None)
    far.arrive(*(far.packet(chunk(index)) for index in range(40)))
    channel = far.connection._channels.find(0)
    assert channel is not None
    assert [len(piece) for piece in channel.incoming.chunks] == [len(TEXT)]
    assert far.connection.read(0, 1 << 20, far.now) == TEXT
    assert far.connection._channels.flow.credit.received == len(TEXT)


def test_a_run_behind_a_hole_takes_the_short_way_too(monkeypatch):
    far = settled()
    packets = [far.packet(chunk(index)) for index in range(40)]
    monkeypatch.setattr(receiver, "parse_frames", None)
    far.arrive(*packets[:10], *packets[11:])
    assert far.connection.read(0, 1 << 20, far.now) == TEXT[: 10 * BASE_CHUNK_SIZE]
    monkeypatch.undo()
    far.arrive(packets[10])
    rest = TEXT[10 * BASE_CHUNK_SIZE :]
    assert far.connection.read(0, 1 << 20, far.now) == rest


def test_a_run_longer_than_a_bench_is_taken_whole():
    far = settled()
    text = random.Random(3).randbytes(150 * BASE_CHUNK_SIZE)
    far.arrive(
        *(
            far.packet(encode_data(0, at, text[at : at + BASE_CHUNK_SIZE], fin=False))
            for at in range(0, len(text), BASE_CHUNK_SIZE)
        ),
        far.packet(encode_data(0, len(text), b"end", fin=True)),
    )
    assert far.connection.read(0, 1 << 20, far.now) == text + b"end"


def test_what_is_no_bulk_data_in_a_run_of_equal_packets_is_parsed():
    far = settled()
    body = TEXT[: BASE_CHUNK_SIZE - 2 * DATA_HEADER_SIZE]
    mixed = (
        encode_data(0, 2 * BASE_CHUNK_SIZE, body[:1000], fin=False)
        + encode_data(0, 2 * BASE_CHUNK_SIZE + 1000, body[1000:], fin=False)
        + encode_data(2, 0, b"", fin=True)
    )
    run = [far.packet(chunk(0)), far.packet(chunk(1)), far.packet(mixed)]
    tail = 2 * BASE_CHUNK_SIZE + len(body)
    for number in range(3):
        at = tail + number * BASE_CHUNK_SIZE
        run.append(far.packet(encode_data(0, at, chunk(number)[15:], fin=False)))
    assert {len(packet) for packet in run} == {1200}
    far.arrive(*run)
    expected = TEXT[: 2 * BASE_CHUNK_SIZE] + body + TEXT[: 3 * BASE_CHUNK_SIZE]
    assert far.connection.read(0, 1 << 20, far.now) == expected
    assert far.connection.read(2, 1, far.now) == b""


@pytest.mark.parametrize("seed", range(8))
def test_any_order_within_runs_gives_the_same_bytes(seed):
    far = settled()
    dice = random.Random(seed)
    packets = [far.packet(chunk(index)) for index in range(40)]
    packets += dice.sample(packets, 10)
    dice.shuffle(packets)
    while packets:
        count = dice.randint(1, 12)
        far.arrive(*packets[:count])
        del packets[:count]
    assert far.connection.read(0, 1 << 20, far.now) == TEXT
    assert far.connection.statistics().duplicates == 10


def test_channels_alternate_within_a_run():
    far = settled()
    far.arrive(*(far.packet(chunk(index // 2, index % 2 * 2)) for index in range(40)))
    for channel in (0, 2):
        got = b""
        while piece := far.connection.read(channel, 1 << 20, far.now):
            got += piece
        assert got == TEXT[: 20 * BASE_CHUNK_SIZE]


def test_a_forged_packet_in_a_run_costs_only_itself():
    far = settled()
    packets = [bytearray(far.packet(chunk(index))) for index in range(10)]
    packets[4][100] ^= 1
    far.arrive(*map(bytes, packets))
    assert far.connection.statistics().forged == 1
    got = b""
    while piece := far.connection.read(0, 1 << 20, far.now):
        got += piece
    assert got == TEXT[: 4 * BASE_CHUNK_SIZE]


def test_the_last_packet_of_a_run_may_be_short():
    far = settled()
    far.arrive(
        far.packet(chunk(0)),
        far.packet(chunk(1)),
        far.packet(encode_data(0, 2 * BASE_CHUNK_SIZE, b"end", fin=True)),
    )
    got = b""
    while piece := far.connection.read(0, 1 << 20, far.now):
        got += piece
    assert got == TEXT[: 2 * BASE_CHUNK_SIZE] + b"end"


def test_the_short_way_ends_at_the_credit():
    far = FarEnd(config=RudpConfig(channel_window=4 << 20))
    far.settle()
    channel_limit = 4 << 20
    count = channel_limit // BASE_CHUNK_SIZE
    body = bytes(BASE_CHUNK_SIZE)
    for start in range(0, count + 1, 50):
        far.arrive(
            *(
                far.packet(encode_data(0, index * BASE_CHUNK_SIZE, body, fin=False))
                for index in range(start, min(start + 50, count + 1))
            )
        )
    closed = far.closed()
    assert closed is not None
    assert closed.code == CloseCode.FLOW_CONTROL


def test_nothing_is_delivered_by_the_short_way_after_the_end_or_a_stop():
    far = settled()
    far.feed(chunk(0))
    far.connection.stop_reading(0, 1, far.now)
    far.arrive(*(far.packet(chunk(index)) for index in range(1, 5)))
    assert far.connection.read(0, 1 << 20, far.now) is None
    far.feed(encode_data(2, 2 * BASE_CHUNK_SIZE, b"", fin=True))
    far.arrive(*(far.packet(chunk(index, 2)) for index in range(3)))
    closed = far.closed()
    assert closed is not None
    assert closed.code == CloseCode.FINAL_SIZE


@pytest.mark.parametrize("segment_size", [0, 1, 33, 5000])
def test_any_segment_size_is_survived(segment_size):
    far = settled()
    wire = far.packet(encode_ping(1))
    before = far.connection.statistics().packets_received
    far.connection.receive_run(memoryview(wire), segment_size, THERE, far.now)
    far.connection.receive_run(memoryview(b""), segment_size, THERE, far.now)
    figures = far.connection.statistics()
    accepted = figures.packets_received - before
    assert accepted == (1 if segment_size in (0, 5000) else 0)
    if not accepted:
        assert figures.forged + figures.malformed > 0


@pytest.mark.parametrize(
    ("size", "segment_size", "malformed"),
    [(0, 0, 0), (33, 33, 1), (100, 33, 4), (1201, 1201, 1), (2500, 1201, 3)],
)
def test_a_run_of_packets_of_no_valid_size_is_counted_and_dropped(
    size, segment_size, malformed
):
    far = settled()
    far.connection.receive_run(memoryview(bytes(size)), segment_size, THERE, far.now)
    assert far.connection.statistics().malformed == malformed


def test_a_rest_too_short_for_a_packet_spoils_only_itself():
    far = settled()
    received = far.connection.statistics().packets_received
    far.arrive(far.packet(chunk(0)), far.packet(chunk(1)), bytes(33))
    figures = far.connection.statistics()
    assert (figures.packets_received - received, figures.malformed) == (2, 1)
    assert far.connection.read(0, 1 << 20, far.now) == TEXT[: 2 * BASE_CHUNK_SIZE]


def test_a_single_large_packet_takes_the_short_way(monkeypatch):
    far = settled()
    monkeypatch.setattr(receiver, "parse_frames", None)
    far.arrive(far.packet(encode_data(0, 0, TEXT[:30_000], fin=False)))
    assert far.connection.read(0, 1 << 20, far.now) == TEXT[:30_000]
