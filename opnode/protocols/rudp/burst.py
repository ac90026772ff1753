"""Builds and seals outgoing packets, a burst of equal ones at a time.

Decides what goes into a packet; whether a packet may go is told by the congestion
window, and what becomes of it is the business of recovery.
"""

from collections import deque

from opnode.core.crypto import Aead
from opnode.protocols.rudp.acknowledgements import Acknowledgements
from opnode.protocols.rudp.channel import Channel
from opnode.protocols.rudp.channel_table import ChannelTable
from opnode.protocols.rudp.control_queue import PROBE_PING_ID, ControlQueue
from opnode.protocols.rudp.packet import (
    CHUNK_SIZE,
    DATA_HEADER_SIZE,
    DATA_TYPE,
    DATAGRAM_HEADER_SIZE,
    MAX_BURST_SEGMENTS,
    MAX_PLAINTEXT,
    PACKET_SIZE,
    FrameType,
    encode_data,
    encode_datagram,
    encode_ping,
    pack_data_header,
    pack_header,
    pack_nonce,
)
from opnode.protocols.rudp.recovery import ControlKey, Recovery, SentPiece, SentRun
from opnode.protocols.rudp.send_buffer import SendBuffer

# A burst waits until a quarter of the window is free: with a packet sent for every
# packet acknowledged, bursts would shrink to nothing.
_WAIT_FRACTION = 4
# How often an acknowledgement with many ranges asks to be acknowledged.
_ASK_INTERVAL_S = 0.1


class BurstBuilder:
    """Turns waiting data, control frames and acknowledgements into sealed packets."""

    def __init__(
        self,
        *,
        aead: Aead,
        prefix: bytes,
        channels: ChannelTable,
        controls: ControlQueue,
        acks: Acknowledgements,
        recovery: Recovery,
    ) -> None:
        """Start with packet number 0.

        Args:
            aead: Seals under the key for what we send.
            prefix: Type byte and the peer's connection id.
            channels: Where stream bytes come from.
            controls: Where control frames come from.
            acks: What must be acknowledged.
            recovery: Told about every packet that wants an acknowledgement.
        """
        self.next_number = 0
        self.max_segments = 1
        # Packets that may leave whatever the congestion window says (RFC 9002 §7.5).
        self.probes = 0
        self.datagrams: deque[bytes] = deque()
        # Whether the last burst ended for want of congestion window.
        self.is_window_limited = False
        self.packets_sent = 0
        self.bytes_sent = 0
        self._encrypt = aead.encrypt
        self._prefix = prefix
        self._channels = channels
        self._controls = controls
        self._acks = acks
        self._recovery = recovery
        self._asked_at = float("-inf")

    def build(self, now: float, window: int) -> bytes:
        """Build one burst: full packets of bulk data, then at most one other packet.

        Args:
            now: The present.
            window: The congestion window in bytes.

        Returns:
            Packets of 1200 bytes, the last may be shorter; empty when nothing may go.
        """
        acks = self._acks
        in_flight = self._recovery.bytes_in_flight
        allowed = max((window - in_flight) // PACKET_SIZE, self.probes)
        limit = min(self.max_segments, MAX_BURST_SEGMENTS)
        parts: list[bytes] = []
        room = min(allowed, limit)
        if room > 0 and (acks.is_due or self._controls or self.datagrams):
            room -= limit == room
        enough = max(min(limit, window // PACKET_SIZE // _WAIT_FRACTION), 1)
        self.is_window_limited = allowed < enough and bool(self._channels.active)
        count = 0
        if self._channels.active and (
            allowed >= enough or self.probes or not in_flight
        ):
            count = self._add_bulk(parts, room, now)
        if count < limit:
            may_send = allowed > count
            parts += self._add_mixed(now, may_send=may_send)
        if not parts:
            return b""
        self.packets_sent += len(parts) // 2
        burst = b"".join(parts)
        self.bytes_sent += len(burst)
        return burst

    def build_probe(self, now: float) -> bytes:
        """Build a packet with a PING alone, for when there is room for nothing else."""
        sealed = self.seal(encode_ping(PROBE_PING_ID))
        run = self._remember(sealed, now)
        run.controls = ((FrameType.PING, PROBE_PING_ID),)
        self.packets_sent += 1
        self.bytes_sent += run.size
        return b"".join(sealed)

    def skip(self, count: int) -> range:
        """Leave out packet numbers; returns which."""
        skipped = range(self.next_number, self.next_number + count)
        self.next_number = skipped.stop
        return skipped

    def seal(self, plaintext: bytes) -> list[bytes]:
        """Seal one packet under the next number; returns header and ciphertext."""
        number = self.next_number
        self.next_number = number + 1
        header = pack_header(self._prefix, number)
        return [header, self._encrypt(pack_nonce(0, number), plaintext, header)]

    def _add_bulk(self, parts: list[bytes], room: int, now: float) -> int:
        """Add up to `room` full packets of stream data; returns how many."""
        channels = self._channels
        added = 0
        for channel in list(channels.active.values()):
            served = self._serve(channel, parts, room - added, now)
            added += served
            if served:
                channels.move_to_back(channel)
            channels.rest_if_idle(channel)
            if added >= room:
                break
        return added

    def _serve(
        self, channel: Channel, parts: list[bytes], room: int, now: float
    ) -> int:
        channels, out = self._channels, channel.outgoing
        added = 0
        while added < room:
            start, stop = out.next_range(channels.new_bytes_left)
            count = min((stop - start) // CHUNK_SIZE, room - added)
            if count <= 0:
                break
            self._seal_run(parts, out, start, count)
            run = SentRun(
                self.next_number - count,
                self.next_number,
                size=PACKET_SIZE,
                sent_at=now,
            )
            run.buffer, run.offset, run.chunk = out, start, CHUNK_SIZE
            self._recovery.on_sent(run)
            channels.take_range(channel, start, start + count * CHUNK_SIZE)
            self.probes = max(self.probes - count, 0)
            added += count
        return added

    def _seal_run(
        self, parts: list[bytes], out: SendBuffer, start: int, count: int
    ) -> None:
        """Seal consecutive full packets; the hot loop of sending, 1.5 µs a packet."""
        number = self.next_number
        self.next_number = number + count
        size = count * CHUNK_SIZE
        view = out.view(start, start + size)
        channel_id, prefix, append = out.channel_id, self._prefix, parts.append
        encrypt = self._encrypt
        for position in range(0, size, CHUNK_SIZE):
            header = pack_header(prefix, number)
            append(header)
            append(
                encrypt(
                    pack_nonce(0, number),
                    pack_data_header(
                        DATA_TYPE, channel_id, start + position, CHUNK_SIZE
                    )
                    + view[position : position + CHUNK_SIZE],
                    header,
                )
            )
            number += 1

    def _add_mixed(self, now: float, *, may_send: bool) -> list[bytes]:
        """Build the packet for everything that fills no packet of its own."""
        acks, datagrams = self._acks, self.datagrams
        ack = acks.encode(now) if acks.is_pending else b""
        space = MAX_PLAINTEXT - len(ack)
        needed = len(datagrams[0]) + DATAGRAM_HEADER_SIZE if datagrams else 0
        if needed > space and not acks.is_due:
            ack, space = b"", MAX_PLAINTEXT
        frames: list[bytes] = []
        keys: list[ControlKey] = []
        pieces: list[SentPiece] = []
        if may_send:
            if ack and acks.wants_confirmation:
                self._ask_for_confirmation(now)
            frames, keys = self._controls.take(space, self._channels.encode_control)
            space -= sum(map(len, frames))
            while datagrams and len(datagrams[0]) + DATAGRAM_HEADER_SIZE <= space:
                frames.append(encode_datagram(datagrams.popleft()))
                space -= len(frames[-1])
            self._add_pieces(frames, pieces, space)
        if not frames and not (ack and acks.is_due):
            return []
        acks_below = acks.next_number if ack else 0
        if ack:
            acks.on_sent()
        sealed = self.seal(ack + b"".join(frames))
        if frames:
            run = self._remember(sealed, now)
            run.controls, run.pieces = tuple(keys), tuple(pieces)
            run.acks_below = acks_below
        return sealed

    def _remember(self, sealed: list[bytes], now: float) -> SentRun:
        """Tell recovery about the one packet that was sealed last."""
        run = SentRun(
            self.next_number - 1,
            self.next_number,
            size=sum(map(len, sealed)),
            sent_at=now,
        )
        self._recovery.on_sent(run)
        self.probes = max(self.probes - 1, 0)
        return run

    def _add_pieces(
        self, frames: list[bytes], pieces: list[SentPiece], space: int
    ) -> None:
        """Fill what is left with ranges that are too short for a packet."""
        channels = self._channels
        for channel in list(channels.active.values()):
            while space > DATA_HEADER_SIZE:
                piece = self._next_piece(channel, space - DATA_HEADER_SIZE)
                if piece is None:
                    break
                buffer, start, stop, fin = piece
                data = bytes(buffer.view(start, stop)) if start < stop else b""
                channels.take_range(channel, start, stop)
                frames.append(encode_data(buffer.channel_id, start, data, fin=fin))
                pieces.append(piece)
                if fin:
                    buffer.fin_pending = False
                space -= DATA_HEADER_SIZE + stop - start
            channels.rest_if_idle(channel)
            if space <= DATA_HEADER_SIZE:
                return

    def _next_piece(self, channel: Channel, space: int) -> SentPiece | None:
        out = channel.outgoing
        start, stop = out.next_range(self._channels.new_bytes_left)
        if stop - start >= CHUNK_SIZE:
            return None
        stop = min(stop, start + space)
        fin = out.fin_pending and stop == out.written
        if start == stop and not fin and channel.is_announced:
            return None
        return SentPiece(out, start, stop, fin)

    def _ask_for_confirmation(self, now: float) -> None:
        if now - self._asked_at >= _ASK_INTERVAL_S:
            self._asked_at = now
            self._controls.add_probe()
