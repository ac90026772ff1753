"""Packets get the next numbers, hidden by the offset of their connection id."""

import pytest

from opnode.protocols.rudp import packet
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.connection_ids import ConnectionIds
from opnode.protocols.rudp.frames import BULK_OVERHEAD, DataFrame, parse_frames
from opnode.protocols.rudp.packet_keys import PacketKeys
from opnode.protocols.rudp.receipt_proof import ReceiptProof
from opnode.protocols.rudp.sealer import PacketSealer
from opnode.protocols.rudp.send_buffer import SendBuffer
from opnode.testing.pair import seeded_keys

KEYS, THEIR_KEYS = seeded_keys()
OURS = PacketKeys(KEYS, initiator=True, config=RudpConfig())
THEIRS = PacketKeys(THEIR_KEYS, initiator=False, config=RudpConfig())
IDS = ConnectionIds(KEYS, of_initiator=False, ours=False)
PROOF = ReceiptProof(bytes(32))


def opened(wire: bytes, index: int = 0) -> tuple[int, bytes]:
    """Return number and plaintext of a packet under the id with this index."""
    assert wire.startswith(IDS[index].prefix)
    (wire_number,) = packet.unpack_wire_number(wire, packet.PREFIX_SIZE)
    nonce, body = wire[packet.NONCE_AT : packet.HEADER_SIZE], wire[packet.HEADER_SIZE :]
    plaintext = THEIRS.decrypt(nonce, body, None)
    return wire_number - IDS[index].offset, plaintext


TEXT = bytes(range(256)) * 40


def written(channel_id: int) -> SendBuffer:
    """Return a channel's bytes in blocks of uneven sizes."""
    out = SendBuffer(channel_id, capacity=len(TEXT), limit=len(TEXT))
    for start, stop in ((0, 5000), (5000, 5007), (5007, len(TEXT))):
        out.write(memoryview(TEXT)[start:stop])
    return out


@pytest.mark.parametrize("count", [1, 3, 10, 11, 20])
def test_single_packets_and_bulk_share_one_row_of_numbers_and_marks(count: int):
    sealer = PacketSealer(OURS, IDS[0], PROOF)
    chunk = 451
    size = chunk + BULK_OVERHEAD
    wire = b"".join(sealer.seal(bytes(size - packet.OVERHEAD)))
    wire += b"".join(sealer.seal_bulk(written(6), 100, chunk, range(2, 2 + count)))
    assert sealer.skip(2) == range(count + 1, count + 3)
    wire += b"".join(sealer.seal(b"last"))
    packets = [opened(wire[at : at + size]) for at in range(0, len(wire), size)]
    numbers = [*range(count + 1), count + 3]
    assert [number for number, _ in packets] == numbers
    assert [plain[0] for _, plain in packets] == [
        PROOF.marks(number, 1)[0] for number in numbers
    ]
    assert [parse_frames(plain, packet.PROOF_SIZE) for _, plain in packets[1:-1]] == [
        [DataFrame(6, at, TEXT[at : at + chunk], fin=False)]
        for at in range(100, 100 + count * chunk, chunk)
    ]
    assert packets[-1][1][1:] == b"last"
    assert sealer.packets_sent == count + 2


def test_two_channels_share_a_burst():
    sealer = PacketSealer(OURS, IDS[0], PROOF)
    parts = sealer.seal_bulk(written(2), 0, 451, range(11))
    parts += sealer.seal_bulk(written(4), 451, 451, range(11, 22))
    wire = b"".join(parts)
    found = []
    for at in range(0, len(wire), 500):
        [frame] = parse_frames(opened(wire[at : at + 500])[1], packet.PROOF_SIZE)
        assert isinstance(frame, DataFrame)
        assert frame.data == TEXT[frame.offset : frame.offset + 451]
        found.append((frame.channel_id, frame.offset // 451))
    assert found == [(2, index) for index in range(11)] + [
        (4, index) for index in range(1, 12)
    ]


def test_another_path_gets_another_id_and_another_offset_for_the_same_row():
    sealer = PacketSealer(OURS, IDS[0], PROOF)
    sealer.seal(b"here")
    sealer.connection_id = IDS[1]
    assert opened(b"".join(sealer.seal(b"there")), index=1)[0] == 1
