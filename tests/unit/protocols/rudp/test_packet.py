"""The sizes that everything else counts on."""

import pytest

from opnode.protocols.rudp import packet


def test_header_and_nonce_have_the_sizes_of_the_document():
    header = packet.pack_header(b"\xe012345678", packet.KEY_PHASE_FLAG | 5)
    assert header == bytes.fromhex("e0 3132333435363738 01 00000000000005")
    assert header[packet.NONCE_AT :] == bytes.fromhex("35363738 01 00000000000005")
    assert packet.unpack_wire_number(header, packet.PREFIX_SIZE) == ((1 << 56) + 5,)


def test_number_and_offset_never_reach_the_flags():
    largest = packet.MAX_PACKET_NUMBER + packet.MAX_NUMBER_OFFSET
    assert largest <= packet.WIRE_NUMBER_MASK < packet.KEY_PHASE_FLAG


@pytest.mark.parametrize(
    ("size", "count"), [(1200, 54), (1000, 64), (9000, 7), (40_000, 1), (65_507, 1)]
)
def test_a_burst_fits_one_send(size, count):
    assert packet.burst_limit(size) == count
