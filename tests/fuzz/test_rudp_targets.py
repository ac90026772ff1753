"""The fuzz targets of RUDP, replayed by hypothesis as plain tests."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opnode.protocols.rudp import frames, packet
from opnode.protocols.rudp.frames import FrameType
from tests.fuzz.rudp_targets import TARGETS, Target, mad_peer_target
from tests.unit.protocols.rudp.far_end import THERE, FarEnd

every_target = pytest.mark.parametrize(
    "target", TARGETS, ids=[target.__name__ for target in TARGETS]
)

small = st.integers(0, 5)
sizes = small | st.sampled_from([2**20, 2**32 - 1])
offsets = small | st.sampled_from([2**18, 2**62, 2**64 - 1])
ranges = st.integers(1, 9).flatmap(
    lambda top: st.builds(
        lambda width, ecn: frames.encode_ack(
            0.0, [(top - min(width, top), top, width)], ecn
        ),
        st.integers(1, 9),
        st.none() | st.builds(frames.EcnCounts, small, small, offsets.filter(bool)),
    )
)
any_frame = st.one_of(
    st.builds(frames.encode_ping, sizes),
    st.builds(frames.encode_channel_credit, sizes, offsets),
    st.builds(frames.encode_connection_credit, offsets),
    st.builds(frames.encode_channel_count, sizes),
    st.builds(frames.encode_reset, sizes, sizes, offsets),
    st.builds(frames.encode_stop_reading, sizes, sizes),
    st.builds(frames.encode_datagram, st.binary(max_size=20)),
    st.builds(frames.encode_close, sizes, st.text(max_size=20)),
    st.builds(
        frames.encode_data, sizes, offsets, st.binary(max_size=9), fin=st.booleans()
    ),
    ranges,
    st.builds(frames.encode_path_challenge, st.binary(min_size=8, max_size=8)),
    st.builds(frames.encode_path_response, st.binary(min_size=8, max_size=8)),
    st.builds(frames.encode_key_share, small, st.binary(min_size=1, max_size=20)),
    st.builds(
        frames.encode_ack_frequency, sizes, st.integers(1, 9), st.floats(0.0, 9.0)
    ),
)


@every_target
@given(data=st.binary(max_size=4000))
def test_r_38_nothing_escapes_from_any_bytes(target: Target, data: bytes):
    target(data)


@settings(max_examples=200)
@given(st.lists(any_frame, max_size=12))
def test_r_38_nothing_escapes_from_any_frames(parts):
    mad_peer_target(b"".join(parts))


def test_r_38_ten_thousand_random_and_mutated_datagrams_leave_a_connection_alone():
    far = FarEnd()
    far.settle()
    dice = random.Random(1)
    genuine = far.packet(frames.encode_data(0, 0, bytes(1000), fin=True))
    kinds = bytes([packet.PACKET_TYPE]) + far.connection.local_ids[0]
    for round_ in range(10_000):
        if round_ % 2:
            wire = bytearray(genuine[: dice.randint(1, len(genuine))])
            wire[dice.randrange(len(wire))] ^= dice.randint(1, 255)
        else:
            wire = bytearray(kinds + dice.randbytes(dice.randint(0, 100)))
        run = memoryview(bytes(wire) * dice.randint(1, 3))
        far.connection.receive_run(run, len(wire), THERE, far.now)
    figures = far.connection.statistics()
    assert figures.forged + figures.malformed >= 10_000
    assert figures.packets_received == far.next_number - 1
    assert far.sent() == []
    assert far.events() == []


def test_every_frame_type_has_its_strategy():
    drawn = {FrameType.PADDING, FrameType.ACK, FrameType.ACK_ECN}
    for encoded in (
        frames.encode_ping(1),
        frames.encode_channel_credit(1, 1),
        frames.encode_connection_credit(1),
        frames.encode_channel_count(1),
        frames.encode_reset(1, 1, 1),
        frames.encode_stop_reading(1, 1),
        frames.encode_datagram(b""),
        frames.encode_close(0, ""),
        frames.encode_data(0, 0, b"", fin=False),
        frames.encode_data(0, 0, b"", fin=True),
        frames.encode_path_challenge(bytes(8)),
        frames.encode_path_response(bytes(8)),
        frames.encode_key_share(0, b"x"),
        frames.encode_ack_frequency(0, 1, 0.0),
    ):
        drawn.add(FrameType(encoded[0]))
    assert drawn == set(FrameType)
