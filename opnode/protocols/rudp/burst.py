"""Composes outgoing packets, a burst of equal ones at a time.

Decides what goes into a packet; whether a packet may go is told by the congestion
window, and what becomes of it is the business of recovery.
"""

from collections.abc import Sequence

from opnode.protocols.rudp.acknowledgements import Acknowledgements
from opnode.protocols.rudp.channel import Channel
from opnode.protocols.rudp.channel_table import ChannelTable
from opnode.protocols.rudp.control_queue import PROBE_PING_ID, ControlQueue
from opnode.protocols.rudp.datagram_queue import DatagramQueue
from opnode.protocols.rudp.frames import (
    BULK_OVERHEAD,
    DATA_HEADER_SIZE,
    DATA_TYPE,
    DATAGRAM_HEADER_SIZE,
    FrameType,
    encode_data,
    encode_datagram,
    encode_ping,
    pack_data_header,
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

# How often an acknowledgement with many ranges asks to be acknowledged, unless a round
# trip takes longer: at 170 000 packets a second of which one in a hundred is lost, 17
# holes come in that time.
_ASK_INTERVAL_S = 0.01


class BurstBuilder:
    """Turns waiting data, control frames and acknowledgements into sealed packets.

    Attributes:
        datagrams: Unreliable messages; its owner sets it before the first burst.
    """

    datagrams: DatagramQueue

    __slots__ = (
        "_acks",
        "_asked_at",
        "_channels",
        "_controls",
        "_rate",
        "_recovery",
        "_sealer",
        "asks_sender",
        "datagrams",
        "max_segments",
        "packet_size",
        "probes",
    )

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
        # Whether a sender that fell silent is to be asked what is the matter.
        self.asks_sender = False
        self._sealer = sealer
        self._channels = channels
        self._controls = controls
        self._acks = acks
        self._recovery = recovery
        self._rate = rate
        self._asked_at = float("-inf")

    @property
    def has_work(self) -> bool:
        """Whether anything waits to leave, the congestion window left aside."""
        # Asked four times for a message and its answer: no calls but one.
        return (
            self._channels.has_data
            or self._acks.is_due
            or self.asks_sender
            or bool(self._controls.waiting or self.datagrams.waiting)
        )

    def has_less_than(self, bursts: int) -> bool:
        """Whether less waits than so many bursts, of one channel that goes on."""
        channel = self._channels.only_writer
        if channel is None or self._acks.is_due or self._controls or self.datagrams:
            return False
        out = channel.outgoing
        limit = min(self.max_segments, burst_limit(self.packet_size))
        full = limit * (self.packet_size - BULK_OVERHEAD)
        return not out.finished and out.written - out.sent < bursts * full

    def build(self, now: float) -> bytes:
        """Build one burst: full packets of bulk data, then what fills none of its own.

        Args:
            now: The present.

        Returns:
            Packets of ``packet_size`` bytes, the last may be shorter; empty when
            nothing may go.
        """
        if self.asks_sender:
            return self._build_question(now)
        channels, rate, recovery = self._channels, self._rate, self._recovery
        in_flight = recovery.bytes_in_flight
        limit = min(self.max_segments, burst_limit(self.packet_size))
        allowed, free, enough = rate.allowance(now, limit, self.packet_size)
        if self.probes:
            allowed, free = max(allowed, self.probes), max(free, self.probes)
        parts: Sequence[bytes | memoryview] = ()
        # A writer that fills the window asks once for every write: nothing may leave.
        if allowed > 0 or self._acks.is_due or (free > 0 and self._controls.waiting):
            may_bulk = allowed >= enough or self.probes > 0 or not in_flight
            room = min(allowed, limit)
            parts = self._build_short_way(now, room, may_bulk=may_bulk)
            parts = parts or self._build_mixture(now, room, free, may_bulk=may_bulk)
        burst = b"".join(parts)
        packets = -(-len(burst) // self.packet_size)
        if channels.has_data or self.datagrams.waiting:
            rate.is_limited = True
            if allowed < enough <= free:
                rate.wait_for(enough, now)
        elif free > packets:
            rate.is_limited = False
            recovery.delivery.on_app_limited(recovery.bytes_in_flight)
        if burst:
            if self.probes and not self.has_work:
                # What is asked again fitted one packet, and one is lost too easily.
                self._controls.add_probe()
            sent = recovery.bytes_in_flight - in_flight
            rate.on_sent(sent, packets=packets, now=now)
        return burst

    def _build_short_way(
        self, now: float, room: int, *, may_bulk: bool
    ) -> Sequence[bytes | memoryview]:
        """Build what a single channel wants to send, empty when more is to be sent."""
        lone = self._channels.only_writer if room > 0 else None
        if lone is None:
            return ()
        out = lone.outgoing
        parts: Sequence[bytes | memoryview] = ()
        if may_bulk and out.written - out.sent >= self.packet_size - BULK_OVERHEAD:
            parts = self._build_bulk(lone, room, now)
        return parts or self._build_lone(lone, now)

    def _build_bulk(
        self, channel: Channel, room: int, now: float
    ) -> Sequence[bytes | memoryview]:
        """Fill a burst with full packets of one channel, if nothing else waits.

        The short way of a stream: it spares 4 of the 27 µs that a burst costs besides
        sealing, and 5 more while an acknowledgement is pending.
        """
        out, channels = channel.outgoing, self._channels
        new_bytes = min(min(out.written, out.limit) - out.sent, channels.new_bytes_left)
        if (
            new_bytes < room * (self.packet_size - BULK_OVERHEAD)
            or self._acks.is_due
            or self._controls
            or self.datagrams
        ):
            return ()
        burst = _Burst(room)
        self._serve(channel, burst, room, now)
        channels.after_turn(channel)
        return burst.parts

    def _build_lone(self, channel: Channel, now: float) -> list[bytes]:
        """Build the packet for a few new bytes of one channel, with nothing else.

        The short way of a message and its answer: a third of what the long way costs.
        """
        out, acks = channel.outgoing, self._acks
        start, stop = out.sent, out.written
        ack = acks.encode(now) if acks.is_pending else b""
        space = self.packet_size - OVERHEAD - DATA_HEADER_SIZE - len(ack)
        if (
            stop - start > space
            or stop - start > self._channels.new_bytes_left
            or stop > out.limit
            or out.fin_pending
            or self._controls.waiting
            or self.datagrams.waiting
            or (ack and acks.wants_confirmation)
        ):
            return []
        data = out.view(start, stop)
        header = pack_data_header(DATA_TYPE, channel.channel_id, start, stop - start)
        self._channels.take_range(channel, start, stop)
        self._channels.after_turn(channel)
        sealed = self._sealer.seal(b"".join((ack, header, data)))
        run = self._remember(sealed, now)
        run.pieces = (SentPiece(out, start, stop, False),)
        if ack:
            run.acks_below = acks.next_number
            acks.on_sent()
        return sealed

    def _build_question(self, now: float) -> bytes:
        """Build a PING as long as a base packet.

        If our address changed, the peer may answer with three times as many bytes of
        data, before it has proof that we are there (RFC 9000 §8).
        """
        self.asks_sender = False
        size = BASE_PACKET_SIZE - OVERHEAD
        sealed = self._sealer.seal(encode_ping(PROBE_PING_ID).ljust(size, b"\0"))
        run = self._remember(sealed, now)
        run.controls = ((FrameType.PING, PROBE_PING_ID),)
        self._rate.on_sent(run.size, packets=1, now=now)
        return b"".join(sealed)

    def _build_mixture(
        self, now: float, room: int, free: int, *, may_bulk: bool
    ) -> list[bytes | memoryview]:
        """Build a burst that may hold anything.

        Args:
            now: The present.
            room: Packets that may leave.
            free: Packets that the window alone allows. Control frames do not wait for
                their turn: they are few and small.
            may_bulk: Whether full packets may leave now.
        """
        acks = self._acks
        if free > 0 and acks.is_due and acks.wants_confirmation:
            self._ask_for_confirmation(now)
        mixed = self._start_mixed(
            now, may_send=room > 0 or (free > 0 and len(self._controls) > 0)
        )
        burst = _Burst(room - (mixed.is_empty and acks.is_due and room > 1))
        if room > 0 and self._channels.has_data:
            mixed = self._add_data(burst, mixed, now, may_bulk=may_bulk)
        if not mixed.is_empty or (mixed.ack and acks.is_due):
            burst.parts += self._seal_mixed(mixed, now)
        return burst.parts

    def _add_data(
        self, burst: "_Burst", mixed: "_MixedPacket", now: float, *, may_bulk: bool
    ) -> "_MixedPacket":
        """Serve channels in their order until the room or the channels are used up.

        Args:
            burst: Gets the packets that are complete.
            mixed: What was collected for a packet that holds more than one thing.
            now: The present.
            may_bulk: Whether full packets may leave now.

        Returns:
            The mixed packet, to be sealed last.
        """
        channels = self._channels
        while (channel := channels.next_channel()) is not None:
            left = burst.room - (not mixed.is_empty)
            if may_bulk and left > 0 and self._serve(channel, burst, left, now):
                channels.after_turn(channel)
                continue
            if mixed.space <= DATA_HEADER_SIZE:
                if left <= 0:
                    break
                mixed.add(bytes(mixed.space))
                burst.add(self._seal_mixed(mixed, now), 1)
                mixed = _MixedPacket(b"", self.packet_size - OVERHEAD)
                continue
            if (mixed.is_empty and left <= 0) or not self._add_piece(mixed, channel):
                break
            channels.after_turn(channel)
        return mixed

    def _serve(self, channel: Channel, burst: "_Burst", room: int, now: float) -> int:
        """Fill up to `room` packets with a channel's bytes; returns how many."""
        channels, out, sealer = self._channels, channel.outgoing, self._sealer
        chunk = self.packet_size - BULK_OVERHEAD
        added = 0
        while added < room:
            start, stop = out.next_range(channels.new_bytes_left)
            count = min((stop - start) // chunk, room - added)
            if count <= 0:
                break
            number = sealer.next_number
            slots = range(burst.count, burst.count + count)
            burst.add(sealer.seal_bulk(out, start, chunk, slots), count)
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

    def _start_mixed(self, now: float, *, may_send: bool) -> "_MixedPacket":
        """Begin the packet for everything that fills no packet of its own."""
        acks, datagrams = self._acks, self.datagrams
        space = self.packet_size - OVERHEAD
        has_more = self._controls or datagrams or self._channels.has_data
        if not (acks.is_due or (may_send and has_more)):
            return _MixedPacket(b"", space)
        # Where nothing comes back an acknowledgement of ours may be lost, too, and the
        # peer asks again only after ever longer times.
        repeats = self.probes > 0 and acks.may_be_unheard
        ack = acks.encode(now) if acks.is_pending or repeats else b""
        needed = datagrams.first_size + DATAGRAM_HEADER_SIZE if datagrams else 0
        if needed > space - len(ack) and not acks.is_due:
            ack = b""
        mixed = _MixedPacket(ack, space - len(ack))
        if not may_send:
            return mixed
        if ack and acks.wants_confirmation:
            self._ask_for_confirmation(now)
        if self._controls:
            encode = self._channels.encode_control
            frames, mixed.controls = self._controls.take(mixed.space, encode)
            for frame in frames:
                mixed.add(frame)
        while datagrams and datagrams.first_size + DATAGRAM_HEADER_SIZE <= mixed.space:
            mixed.add(encode_datagram(datagrams.take()))
        return mixed

    def _seal_mixed(self, mixed: "_MixedPacket", now: float) -> list[bytes]:
        """Seal a mixed packet and tell recovery."""
        acks, ack = self._acks, mixed.ack
        acks_below = acks.next_number if ack else 0
        if ack:
            acks.on_sent()
        sealed = self._sealer.seal(ack + b"".join(mixed.frames))
        if not mixed.is_empty:
            run = self._remember(sealed, now)
            run.controls, run.pieces = tuple(mixed.controls), tuple(mixed.pieces)
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
        if self.probes:
            self.probes -= 1
        return run

    def _add_piece(self, mixed: "_MixedPacket", channel: Channel) -> bool:
        """Add bytes of a channel, at most what fits; false when none can be added.

        A channel that could fill a packet of its own has to wait for one.
        """
        out = channel.outgoing
        start, stop = out.next_range(self._channels.new_bytes_left)
        if stop - start >= self.packet_size - BULK_OVERHEAD:
            return False
        stop = min(stop, start + mixed.space - DATA_HEADER_SIZE)
        fin = out.fin_pending and stop == out.written
        if start == stop and not fin and channel.is_announced:
            return False
        data = bytes(out.view(start, stop)) if start < stop else b""
        self._channels.take_range(channel, start, stop)
        if fin:
            out.fin_pending = False
        mixed.add(encode_data(out.channel_id, start, data, fin=fin))
        mixed.pieces.append(SentPiece(out, start, stop, fin))
        return True

    def _ask_for_confirmation(self, now: float) -> None:
        interval_s = max(_ASK_INTERVAL_S, self._recovery.rtt.smoothed)
        if now - self._asked_at >= interval_s:
            self._asked_at = now
            self._controls.add_probe()


class _Burst:
    """Packets that are sealed, and room for more."""

    __slots__ = ("count", "parts", "room")

    def __init__(self, room: int) -> None:
        self.parts: list[bytes | memoryview] = []
        self.count = 0
        self.room = room

    def add(self, parts: Sequence[bytes | memoryview], count: int) -> None:
        """Add the parts of some packets."""
        self.parts += parts
        self.count += count
        self.room -= count


class _MixedPacket:
    """A packet in the making that holds more than one thing."""

    __slots__ = ("ack", "controls", "frames", "pieces", "space")

    def __init__(self, ack: bytes, space: int) -> None:
        """Start with an ACK frame, or empty, and bytes left for other frames."""
        self.ack = ack
        self.space = space
        self.frames: list[bytes] = []
        self.controls: list[ControlKey] = []
        self.pieces: list[SentPiece] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing but the ACK is in it."""
        return not self.frames

    def add(self, frame: bytes) -> None:
        """Add a frame that fits."""
        self.frames.append(frame)
        self.space -= len(frame)
