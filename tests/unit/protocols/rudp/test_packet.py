"""Frames byte by byte, and the sizes that everything else counts on."""

import pytest

from opnode.protocols.rudp import packet
from opnode.protocols.rudp.packet import (
    AckFrame,
    ChannelCountFrame,
    ChannelCreditFrame,
    CloseCode,
    CloseFrame,
    ConnectionCreditFrame,
    DataFrame,
    DatagramFrame,
    PeerViolationError,
    PingFrame,
    ResetFrame,
    StopReadingFrame,
    parse_frames,
)

# Written by hand from docs/protocols/rudp.md §3, not by the encoder.
VECTORS = [
    (packet.encode_ping(7), "01 00000007", PingFrame(7)),
    (
        packet.encode_ack(0.00125, [(18, 21), (10, 16), (3, 4)]),
        "02 000004e2 0000000000000014 03 00000003 00000002 00000006 00000006 00000001",
        AckFrame(0.00125, ((18, 21), (10, 16), (3, 4))),
    ),
    (
        packet.encode_data(4, 1152, b"hi", fin=False),
        "03 00000004 0000000000000480 0002 6869",
        DataFrame(4, 1152, b"hi", fin=False),
    ),
    (
        packet.encode_data(5, 0, b"", fin=True),
        "04 00000005 0000000000000000 0000",
        DataFrame(5, 0, b"", fin=True),
    ),
    (
        packet.encode_channel_credit(6, 1 << 22),
        "05 00000006 0000000000400000",
        ChannelCreditFrame(6, 1 << 22),
    ),
    (
        packet.encode_connection_credit(1 << 23),
        "06 0000000000800000",
        ConnectionCreditFrame(1 << 23),
    ),
    (packet.encode_channel_count(1024), "07 00000400", ChannelCountFrame(1024)),
    (
        packet.encode_reset(8, 9, 10),
        "08 00000008 00000009 000000000000000a",
        ResetFrame(8, 9, 10),
    ),
    (
        packet.encode_stop_reading(8, 9),
        "09 00000008 00000009",
        StopReadingFrame(8, 9),
    ),
    (packet.encode_datagram(b"\xff"), "0a 0001 ff", DatagramFrame(b"\xff")),
    (packet.encode_close(3, "bye"), "0b 00000003 0003 627965", CloseFrame(3, "bye")),
]


@pytest.mark.parametrize(("encoded", "text", "frame"), VECTORS)
def test_frames_have_exactly_these_bytes(encoded, text, frame):
    assert encoded == bytes.fromhex(text)
    assert parse_frames(encoded) == [frame]


def test_a_packet_holds_many_frames_between_padding():
    wire = b"\0\0" + b"".join(encoded + b"\0" for encoded, _, _ in VECTORS)
    assert parse_frames(wire) == [frame for _, _, frame in VECTORS]


def test_a_frame_that_is_cut_off_is_refused_at_every_length():
    for encoded, _, _ in VECTORS:
        for size in range(1, len(encoded)):
            with pytest.raises(PeerViolationError) as caught:
                parse_frames(encoded[:size])
            assert caught.value.code is CloseCode.FRAME_ENCODING


def test_sizes_fit_each_other():
    assert packet.CHUNK_SIZE == 1152
    assert packet.HEADER_SIZE + packet.MAX_PLAINTEXT + packet.TAG_SIZE == 1200
    assert packet.MAX_BURST_SEGMENTS * packet.PACKET_SIZE <= 65_507
    longest = packet.encode_ack(0, [(9 * n, 9 * n + 1) for n in range(70, 0, -1)])
    assert len(longest) == 18 + 63 * 8
    assert len(longest) < packet.MAX_PLAINTEXT - packet.MAX_CONTROL_SIZE


def test_values_too_large_for_an_acknowledgement_are_cut():
    (frame,) = parse_frames(packet.encode_ack(9999.0, [(10, 2**40), (2, 5)]))
    assert isinstance(frame, AckFrame)
    assert frame.ranges[0] == (2**40 - (2**32 - 1), 2**40)
    assert frame.delay_s == pytest.approx((2**32 - 1) / 1e6)
    (frame,) = parse_frames(packet.encode_ack(-1.0, [(2**40, 2**40 + 1), (2, 5)]))
    assert frame == AckFrame(0.0, ((2**40, 2**40 + 1),))


def test_a_reason_is_cut_between_characters():
    (frame,) = parse_frames(packet.encode_close(0, "x" + "é" * 200))
    assert frame == CloseFrame(0, "x" + "é" * 127)


def test_an_acknowledgement_above_the_last_packet_number_is_refused():
    wire = b"\x02" + bytes(4) + b"\x01" + bytes(7) + b"\x01" + bytes(3) + b"\x01"
    with pytest.raises(PeerViolationError, match="ACK"):
        parse_frames(wire)


def test_a_close_reason_moves_no_cursor_and_stays_bounded():
    wire = packet.encode_close(0, "\x1b[2J\x07\u202eevil\r\n" + "\x9b" * 500)
    (frame,) = parse_frames(wire)
    assert frame.reason.isprintable()
    assert "evil" in frame.reason
    assert len(frame.reason) <= packet.MAX_REASON_SIZE
