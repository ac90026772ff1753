"""Packets get the next numbers, hidden by the offset of their connection id."""

from opnode.core.crypto import new_aead
from opnode.protocols.rudp import packet
from opnode.protocols.rudp.connection_ids import ConnectionIds
from opnode.protocols.rudp.frames import BULK_HEADER_SIZE, DataFrame, parse_frames
from opnode.protocols.rudp.packet_keys import PacketKeys
from opnode.protocols.rudp.receipt_proof import ReceiptProof
from opnode.protocols.rudp.sealer import PacketSealer
from opnode.testing.pair import seeded_keys

KEYS, _ = seeded_keys()
IDS = ConnectionIds(KEYS, of_initiator=False, ours=False)
PROOF = ReceiptProof(bytes(32))


def opened(wire: bytes, index: int = 0) -> tuple[int, bytes]:
    """Return number and plaintext of a packet under the id with this index."""
    assert wire.startswith(IDS[index].prefix)
    (wire_number,) = packet.unpack_wire_number(wire, packet.PREFIX_SIZE)
    nonce, body = wire[packet.NONCE_AT : packet.HEADER_SIZE], wire[packet.HEADER_SIZE :]
    plaintext = new_aead(KEYS.send).decrypt(nonce, body, None)
    return wire_number - IDS[index].offset, plaintext


def test_single_packets_and_bulk_share_one_row_of_numbers_and_marks():
    sealer = PacketSealer(PacketKeys(KEYS), IDS[0], PROOF)
    parts = sealer.seal(b"first")
    sealer.seal_bulk(parts, 6, 100, memoryview(b"abcdefghi"), 3)
    assert sealer.skip(2) == range(4, 6)
    parts += sealer.seal(b"last")
    packets = [opened(parts[at] + parts[at + 1]) for at in range(0, len(parts), 2)]
    assert [number for number, _ in packets] == [0, 1, 2, 3, 6]
    assert [plain[0] for _, plain in packets] == [
        PROOF.marks(number, 1)[0] for number, _ in packets
    ]
    assert packets[0][1][1:] == b"first"
    assert [parse_frames(plain, packet.PROOF_SIZE) for _, plain in packets[1:4]] == [
        [DataFrame(6, 100, b"abc", fin=False)],
        [DataFrame(6, 103, b"def", fin=False)],
        [DataFrame(6, 106, b"ghi", fin=False)],
    ]
    assert len(packets[1][1]) == BULK_HEADER_SIZE + 3
    assert sealer.packets_sent == 5


def test_another_path_gets_another_id_and_another_offset_for_the_same_row():
    sealer = PacketSealer(PacketKeys(KEYS), IDS[0], PROOF)
    sealer.seal(b"here")
    sealer.connection_id = IDS[1]
    assert opened(b"".join(sealer.seal(b"there")), index=1)[0] == 1
