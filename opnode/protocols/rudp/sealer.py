"""Numbers and seals outgoing packets; decides nothing of what is in them."""

from opnode.protocols.rudp.connection_ids import ConnectionId
from opnode.protocols.rudp.frames import DATA_TYPE, pack_bulk_header
from opnode.protocols.rudp.packet import NONCE_AT, pack_header
from opnode.protocols.rudp.packet_keys import PacketKeys
from opnode.protocols.rudp.receipt_proof import ReceiptProof


class PacketSealer:
    """Turns frames into packets under the next numbers.

    ``connection_id`` is the peer's, for the path on which we send now.
    """

    __slots__ = ("_keys", "_proof", "connection_id", "next_number", "packets_sent")

    def __init__(
        self, keys: PacketKeys, connection_id: ConnectionId, proof: ReceiptProof
    ) -> None:
        """Start with packet number 0."""
        self.next_number = 0
        self.packets_sent = 0
        self.connection_id = connection_id
        self._keys = keys
        self._proof = proof

    def skip(self, count: int) -> range:
        """Leave out packet numbers; returns which."""
        skipped = range(self.next_number, self.next_number + count)
        self.next_number = skipped.stop
        return skipped

    def seal(self, frames: bytes) -> list[bytes]:
        """Seal one packet; returns header and ciphertext."""
        number = self.next_number
        self.next_number = number + 1
        self.packets_sent += 1
        keys, (prefix, offset) = self._keys, self.connection_id
        header = pack_header(prefix, (number + offset) | keys.send_phase)
        plaintext = self._proof.marks(number, 1) + frames
        return [header, keys.encrypt(header[NONCE_AT:], plaintext, None)]

    def seal_bulk(
        self,
        parts: list[bytes],
        channel_id: int,
        offset: int,
        data: memoryview,
        chunk: int,
    ) -> None:
        """Seal packets of `chunk` bytes of a channel each; the hot loop of sending.

        Args:
            parts: Gets header and ciphertext of each packet.
            channel_id: The channel.
            offset: Where in the channel the data begins.
            data: A multiple of `chunk` bytes.
            chunk: At most 65,535.
        """
        count = len(data) // chunk
        first = self.next_number
        self.next_number = first + count
        self.packets_sent += count
        keys, (prefix, number_offset) = self._keys, self.connection_id
        append, encrypt = parts.append, keys.encrypt
        wire_number = (first + number_offset) | keys.send_phase
        position = 0
        for mark in self._proof.marks(first, count):
            header = pack_header(prefix, wire_number)
            append(header)
            plaintext = (
                pack_bulk_header(mark, DATA_TYPE, channel_id, offset + position, chunk)
                + data[position : position + chunk]
            )
            append(encrypt(header[NONCE_AT:], plaintext, None))
            position += chunk
            wire_number += 1
