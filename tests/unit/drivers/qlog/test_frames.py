"""Every frame has a name that viewers know, and no byte of its content."""

import pytest

from opnode.drivers.qlog.frames import describe_frames, describe_stream, stream_id
from opnode.protocols.rudp import frames
from opnode.protocols.rudp.frames import EcnCounts

PRIVATE = b"a private word"


def test_an_acknowledgement_names_both_ends_of_its_ranges_lowest_first():
    encoded = frames.encode_ack(0.0015, [(10, 20, 1), (3, 5, 2)])
    assert describe_frames(encoded) == [
        {"frame_type": "ack", "ack_delay": 1.5, "acked_ranges": [[3, 4], [10, 19]]}
    ]


def test_an_acknowledgement_tells_congestion_marks():
    encoded = frames.encode_ack(0, [(0, 1, 0)], EcnCounts(ect0=4, ect1=0, ce=2))
    (described,) = describe_frames(encoded)
    assert (described["ect0"], described["ect1"], described["ce"]) == (4, 0, 2)


def test_channels_become_bidirectional_streams_of_their_opener():
    assert [stream_id(channel) for channel in (0, 1, 2, 3, 4)] == [0, 1, 4, 5, 8]


def test_the_end_of_a_stream_is_told_only_where_it_is():
    middle = frames.encode_data(2, 100, PRIVATE, fin=False)
    end = frames.encode_data(2, 114, b"", fin=True)
    described = describe_frames(middle + end)
    assert described == [
        describe_stream(2, 100, len(PRIVATE)),
        {**describe_stream(2, 114, 0), "fin": True},
    ]
    assert "fin" not in described[0]


@pytest.mark.parametrize(
    ("encoded", "name"),
    [
        (frames.encode_ping(1), "ping"),
        (frames.encode_datagram(PRIVATE), "datagram"),
        (frames.encode_close(1, "why"), "connection_close"),
        (frames.encode_channel_credit(1, 2), "max_stream_data"),
        (frames.encode_connection_credit(2), "max_data"),
        (frames.encode_channel_count(2), "max_streams"),
        (frames.encode_reset(1, 2, 3), "reset_stream"),
        (frames.encode_stop_reading(1, 2), "stop_sending"),
        (frames.encode_path_challenge(b"8 secret"), "path_challenge"),
        (frames.encode_path_response(b"8 secret"), "path_response"),
        (frames.encode_key_share(0, PRIVATE), "crypto"),
        (frames.encode_ack_frequency(1, 2, 0.02), "ack_frequency"),
    ],
)
def test_frames_are_named_and_their_content_is_not_kept(encoded, name):
    (described,) = describe_frames(encoded)
    assert described["frame_type"] == name
    assert not any(isinstance(value, bytes) for value in described.values())
    assert "private" not in str(described)
    assert "secret" not in str(described)


def test_frames_that_make_no_sense_are_described_all_the_same():
    assert describe_frames(b"\xff\xff") == [
        {"frame_type": "unknown_frame_type", "length": 2}
    ]
