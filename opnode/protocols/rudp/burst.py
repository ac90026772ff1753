"""Composes outgoing packets, a burst of equal ones at a time.

Decides what goes into a packet; whether a packet may go is told by the congestion
window, and what becomes of it is the business of recovery.
"""

from collections import deque

from opnode.protocols.rudp.acknowledgements import Acknowledgements
from opnode.protocols.rudp.channel import Channel
from opnode.protocols.rudp.channel_table import ChannelTable
from opnode.protocols.rudp.control_queue import PROBE_PING_ID, ControlQueue
from opnode.protocols.rudp.frames import (
    BULK_OVERHEAD,
    DATA_HEADER_SIZE,
    DATAGRAM_HEADER_SIZE,
    FrameType,
    encode_data,
    encode_datagram,
    encode_ping,
)
from opnode.protocols.rudp.packet import (
    BASE_PACKET_SIZE,
    OVERHEAD,
    burst_limit,
)
from opnode.protocols.rudp.recovery import Recovery
from opnode.protocols.rudp.sealer import PacketSealer
from opnode.protocols.rudp.send_rate import SendRate
from opnode.protocols.rudp.sent_run import ControlKey, SentPiece, SentRun

# How often an acknowledgement with many ranges asks to be acknowledged.
_ASK_INTERVAL_S = 0.1


class BurstBuilder:
    """Turns waiting data, control frames and acknowledgements into sealed packets."""

    def __init__(
        self,
        *,
        sealer: PacketSealer,
        channels: ChannelTable,
        controls: ControlQueue,
        acks: Acknowledgements,
        recovery: Recovery,
        rate: SendRate,
    ) -> None:
        """Start with nothing to send.

        Args:
            sealer: Numbers and seals the packets.
            channels: Where stream bytes come from.
            controls: Where control frames come from.
            acks: What must be acknowledged.
            recovery: Told about every packet that wants an acknowledgement.
            rate: Says how much may leave.
        """
        self.max_segments = 1
        # All packets of a burst have this size, but the last may be shorter.
        self.packet_size = BASE_PACKET_SIZE
        # Packets that may leave whatever the congestion window says (RFC 9002 §7.5).
        self.probes = 0
        self.datagrams: deque[bytes] = deque()
        self._sealer = sealer
        self._channels = channels
        self._controls = controls
        self._acks = acks
        self._recovery = recovery
        self._rate = rate
        self._asked_at = float("-inf")

    @property
    def has_work(self) -> bool:
        """Whether anything waits to leave, windows left aside."""
        return bool(
            self._channels.active
            or self._acks.is_due
            or self._controls
            or self.datagrams
        )

    def build(self, now: float) -> bytes:
        """Build one burst: full packets of bulk data, then at most one other packet.

        Args:
            now: The present.

        Returns:
            Packets of ``packet_size`` bytes, the last may be shorter; empty when
            nothing may go.
        """
        acks, channels, rate = self._acks, self._channels, self._rate
        in_flight = self._recovery.bytes_in_flight
        limit = min(self.max_segments, burst_limit(self.packet_size))
        allowed, free, enough = rate.allowance(now, limit, self.packet_size)
        allowed = max(allowed, self.probes)
        free = max(free, self.probes)
        parts: list[bytes | memoryview] = []
        room = min(allowed, limit)
        if room > 0 and (acks.is_due or self._controls or self.datagrams):
            room -= limit == room
        count = 0
        if channels.active and (allowed >= enough or self.probes or not in_flight):
            count = self._add_bulk(parts, room, now)
        if count < limit:
            # Control frames do not wait for their turn: they are few and small.
            may_send = allowed > count or (free > count and bool(self._controls))
            parts += self._add_mixed(now, may_send=may_send)
        if channels.active or self.datagrams:
            rate.is_limited = True
            if allowed < enough <= free:
                rate.wait_for(enough, now)
        elif free > count:
            rate.is_limited = False
            self._recovery.delivery.on_app_limited(self._recovery.bytes_in_flight)
        if not parts:
            return b""
        burst = b"".join(parts)
        size = self._recovery.bytes_in_flight - in_flight
        packets = -(-len(burst) // self.packet_size)
        rate.on_sent(size, packets=packets, now=now)
        return burst

    def build_probe(self, now: float) -> bytes:
        """Build a packet with a PING alone, for when there is room for nothing else."""
        sealed = self._sealer.seal(encode_ping(PROBE_PING_ID))
        run = self._remember(sealed, now)
        run.controls = ((FrameType.PING, PROBE_PING_ID),)
        self._rate.on_sent(run.size, packets=1, now=now)
        return b"".join(sealed)

    def _add_bulk(self, parts: list[bytes | memoryview], room: int, now: float) -> int:
        """Add up to `room` full packets of stream data; returns how many."""
        channels = self._channels
        added = 0
        for channel in list(channels.active.values()):
            served = self._serve(channel, parts, range(added, room), now)
            added += served
            if served:
                channels.move_to_back(channel)
            channels.rest_if_idle(channel)
            if added >= room:
                break
        return added

    def _serve(
        self,
        channel: Channel,
        parts: list[bytes | memoryview],
        slots: range,
        now: float,
    ) -> int:
        """Fill places in the burst with a channel's bytes; returns how many."""
        channels, out, sealer = self._channels, channel.outgoing, self._sealer
        chunk = self.packet_size - BULK_OVERHEAD
        added = 0
        while added < len(slots):
            start, stop = out.next_range(channels.new_bytes_left)
            count = min((stop - start) // chunk, len(slots) - added)
            if count <= 0:
                break
            number = sealer.next_number
            parts += sealer.seal_bulk(out, start, chunk, slots[added : added + count])
            run = SentRun(
                number,
                number + count,
                size=self.packet_size,
                sent_at=now,
            )
            run.buffer, run.offset, run.chunk = out, start, chunk
            self._recovery.on_sent(run)
            channels.take_range(channel, start, start + count * chunk)
            self.probes = max(self.probes - count, 0)
            added += count
        return added

    def _add_mixed(self, now: float, *, may_send: bool) -> list[bytes]:
        """Build the packet for everything that fills no packet of its own."""
        acks, datagrams = self._acks, self.datagrams
        has_more = self._controls or datagrams or self._channels.active
        if not (acks.is_due or (may_send and has_more)):
            return []
        ack = acks.encode(now) if acks.is_pending else b""
        space = self.packet_size - OVERHEAD - len(ack)
        needed = len(datagrams[0]) + DATAGRAM_HEADER_SIZE if datagrams else 0
        if needed > space and not acks.is_due:
            ack, space = b"", self.packet_size - OVERHEAD
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
        sealed = self._sealer.seal(ack + b"".join(frames))
        if frames:
            run = self._remember(sealed, now)
            run.controls, run.pieces = tuple(keys), tuple(pieces)
            run.acks_below = acks_below
        return sealed

    def _remember(self, sealed: list[bytes], now: float) -> SentRun:
        """Tell recovery about the one packet that was sealed last."""
        run = SentRun(
            self._sealer.next_number - 1,
            self._sealer.next_number,
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
        if stop - start >= self.packet_size - BULK_OVERHEAD:
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
