"""Frames byte by byte, and the sizes that everything else counts on."""

import pytest

from opnode.protocols.rudp import frames, packet
from opnode.protocols.rudp.frames import (
    AckFrame,
    AckFrequencyFrame,
    ChannelCountFrame,
    ChannelCreditFrame,
    CloseFrame,
    ConnectionCreditFrame,
    DataFrame,
    DatagramFrame,
    EcnCounts,
    FrameType,
    KeyShareFrame,
    PathChallengeFrame,
    PathResponseFrame,
    PingFrame,
    ResetFrame,
    StopReadingFrame,
    parse_frames,
)
from opnode.protocols.rudp.violation import CloseCode, PeerViolationError

# Written by hand from docs/protocols/rudp.md §3, not by the encoder.
VECTORS = [
    (frames.encode_ping(7), "01 00000007", PingFrame(7)),
    (
        frames.encode_ack(0.00125, [(18, 21, 7), (10, 16, 255), (3, 4, 0)]),
        "02 000004e2 0000000000000014 03 0000000000000003 07"
        " 00000002 00000006 ff 00000006 00000001 00",
        AckFrame(0.00125, ((18, 21), (10, 16), (3, 4)), b"\x07\xff\0"),
    ),
    (
        frames.encode_ack(0, [(0, 2, 1)], EcnCounts(3, 4, 5)),
        "10 00000000 0000000000000001 01 0000000000000002 01"
        " 0000000000000003 0000000000000004 0000000000000005",
        AckFrame(0.0, ((0, 2),), b"\x01", EcnCounts(3, 4, 5)),
    ),
    (
        frames.encode_data(4, 1152, b"hi", fin=False),
        "03 00000004 0000000000000480 0002 6869",
        DataFrame(4, 1152, b"hi", fin=False),
    ),
    (
        frames.encode_data(5, 0, b"", fin=True),
        "04 00000005 0000000000000000 0000",
        DataFrame(5, 0, b"", fin=True),
    ),
    (
        frames.encode_channel_credit(6, 1 << 22),
        "05 00000006 0000000000400000",
        ChannelCreditFrame(6, 1 << 22),
    ),
    (
        frames.encode_connection_credit(1 << 23),
        "06 0000000000800000",
        ConnectionCreditFrame(1 << 23),
    ),
    (frames.encode_channel_count(1024), "07 00000400", ChannelCountFrame(1024)),
    (
        frames.encode_reset(8, 9, 10),
        "08 00000008 00000009 000000000000000a",
        ResetFrame(8, 9, 10),
    ),
    (
        frames.encode_stop_reading(8, 9),
        "09 00000008 00000009",
        StopReadingFrame(8, 9),
    ),
    (frames.encode_datagram(b"\xff"), "0a 0001 ff", DatagramFrame(b"\xff")),
    (
        frames.encode_path_challenge(b"12345678"),
        "0c 3132333435363738",
        PathChallengeFrame(b"12345678"),
    ),
    (
        frames.encode_path_response(b"12345678"),
        "0d 3132333435363738",
        PathResponseFrame(b"12345678"),
    ),
    (
        frames.encode_key_share(1, b"\xaa\xbb"),
        "0e 01 0002 aabb",
        KeyShareFrame(1, b"\xaa\xbb"),
    ),
    (
        frames.encode_ack_frequency(2, 10, 0.025),
        "0f 00000002 000a 000061a8",
        AckFrequencyFrame(2, 10, 0.025),
    ),
    (frames.encode_close(3, "bye"), "0b 00000003 0003 627965", CloseFrame(3, "bye")),
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
    assert frames.BASE_CHUNK_SIZE == 1151
    assert packet.OVERHEAD == 34
    ranges = [(9 * n, 9 * n + 1, n) for n in range(70, 0, -1)]
    longest = frames.encode_ack(0, ranges, EcnCounts(1, 2, 3))
    assert len(longest) == 23 + 63 * 9 + 24
    room = packet.BASE_PACKET_SIZE - packet.OVERHEAD
    assert len(longest) < room - frames.control_size(FrameType.RESET)
    assert frames.control_size(FrameType.KEY_SHARE) < room


def test_values_too_large_for_an_acknowledgement_are_left_out():
    (frame,) = parse_frames(frames.encode_ack(9999.0, [(10, 2**40, 3), (2, 5, 4)]))
    assert isinstance(frame, AckFrame)
    assert frame.ranges == ((10, 2**40), (2, 5))
    assert frame.delay_s == pytest.approx((2**32 - 1) / 1e6)
    ranges = [(2**40, 2**40 + 1, 3), (2, 5, 4)]
    (frame,) = parse_frames(frames.encode_ack(-1.0, ranges))
    assert frame == AckFrame(0.0, ((2**40, 2**40 + 1),), b"\x03")


@pytest.mark.parametrize(
    "wire",
    [
        "0e 01 0000",
        "0e 01 0281" + "00" * 641,
        "0f 00000002 0000 000061a8",
        "0a 048c" + "00" * 1164,
    ],
)
def test_values_out_of_bounds_are_refused(wire):
    with pytest.raises(PeerViolationError) as caught:
        parse_frames(bytes.fromhex(wire))
    assert caught.value.code is CloseCode.FRAME_ENCODING


def test_a_reason_is_cut_between_characters():
    (frame,) = parse_frames(frames.encode_close(0, "x" + "é" * 200))
    assert frame == CloseFrame(0, "x" + "é" * 127)


def test_an_acknowledgement_above_the_last_packet_number_is_refused():
    wire = b"\x02" + bytes(4) + b"\x01" + bytes(7) + b"\x01" + bytes(7) + b"\x01\0"
    with pytest.raises(PeerViolationError, match="ACK"):
        parse_frames(wire)


def test_a_close_reason_moves_no_cursor_and_stays_bounded():
    wire = frames.encode_close(0, "\x1b[2J\x07\u202eevil\r\n" + "\x9b" * 500)
    (frame,) = parse_frames(wire)
    assert frame.reason.isprintable()
    assert "evil" in frame.reason
    assert len(frame.reason) <= frames.MAX_REASON_SIZE
