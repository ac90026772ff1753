"""Numbers and seals outgoing packets; decides nothing of what is in them."""

from typing import Final

from opnode.protocols.rudp.connection_ids import ConnectionId
from opnode.protocols.rudp.frames import (
    BASE_CHUNK_SIZE,
    BULK_OVERHEAD,
    DATA_TYPE,
    encode_data,
    pack_bulk_header_into,
)
from opnode.protocols.rudp.observer import BulkPackets, RudpObserver
from opnode.protocols.rudp.packet import NONCE_AT, OVERHEAD, pack_header
from opnode.protocols.rudp.packet_keys import PacketKeys
from opnode.protocols.rudp.receipt_proof import ReceiptProof
from opnode.protocols.rudp.send_buffer import SendBuffer
from opnode.protocols.rudp.workbench import sealing_bench

# Below, as for what was lost, laying out a run costs more than it saves.
_BENCH_FROM_BYTES: Final = 4 * BASE_CHUNK_SIZE


class PacketSealer:
    """Turns frames into packets under the next numbers.

    ``connection_id`` is the peer's, for the path on which we send now.
    """

    __slots__ = (
        "_proof",
        "bytes_sent",
        "connection_id",
        "keys",
        "next_number",
        "observer",
        "packets_sent",
    )

    def __init__(
        self, keys: PacketKeys, connection_id: ConnectionId, proof: ReceiptProof
    ) -> None:
        """Start with packet number 0."""
        self.next_number = 0
        self.packets_sent = 0
        self.bytes_sent = 0
        self.observer: RudpObserver | None = None
        self.connection_id = connection_id
        self.keys = keys
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
        size = OVERHEAD + len(frames)
        self.bytes_sent += size
        if self.observer is not None:
            self.observer.packet_sent(number, frames, size)
        keys, (prefix, offset) = self.keys, self.connection_id
        header = pack_header(prefix, (number + offset) | keys.send_phase)
        plaintext = self._proof.mark(number) + frames
        return [header, keys.encrypt(header[NONCE_AT:], plaintext, None)]

    def seal_bulk(
        self, out: SendBuffer, start: int, chunk: int, slots: range
    ) -> list[bytes | memoryview]:
        """Seal packets of `chunk` bytes of a channel each, and nothing else.

        Args:
            out: Where the bytes are.
            start: The offset of the first packet's.
            chunk: At most 65,535.
            slots: The places of the packets in their burst. What is returned is valid
                until a slot is used again, so a burst uses none twice.

        Returns:
            Parts to be joined.
        """
        count = len(slots)
        if count * chunk >= _BENCH_FROM_BYTES:
            return [self._seal_on_bench(out, start, chunk, slots)]
        parts: list[bytes | memoryview] = []
        for position in range(start, start + count * chunk, chunk):
            data = bytes(out.view(position, position + chunk))
            parts += self.seal(encode_data(out.channel_id, position, data, fin=False))
        return parts

    def _seal_on_bench(
        self, out: SendBuffer, start: int, chunk: int, slots: range
    ) -> memoryview:
        """The hot loop of sending, 1.05 µs a packet; see ``workbench``."""
        count, first = len(slots), self.next_number
        self.next_number = first + count
        self.packets_sent += count
        size = chunk + BULK_OVERHEAD
        self.bytes_sent += count * size
        if self.observer is not None:
            self.observer.bulk_sent(
                BulkPackets(first, count, size, out.channel_id, start, chunk)
            )
        keys, (prefix, number_offset) = self.keys, self.connection_id
        bench = sealing_bench(size)
        out.copy_into(bench.texts[: count * chunk], start)
        nonces = bench.write_headers(
            slots.start, count, prefix, (first + number_offset) | keys.send_phase
        )
        plain, channel_id, encrypt_into = bench.plain, out.channel_id, keys.encrypt_into
        at = 0
        for nonce, mark, plaintext, sealed in zip(
            nonces,
            self._proof.marks(first, count),
            bench.plaintexts,
            bench.sealed[slots.start : slots.stop],
            strict=False,
        ):
            pack_bulk_header_into(
                plain, at, mark, DATA_TYPE, channel_id, start + at, chunk
            )
            encrypt_into(nonce, plaintext, None, sealed)
            at += chunk
        return bench.packets(slots.start, count)
