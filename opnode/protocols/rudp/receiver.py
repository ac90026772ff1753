"""Opens incoming packets, a run of them at a time; owns the replay check.

Full packets of one channel, in order, take the short way from the socket's buffer to
the channel. Everything else is parsed into frames and handed on.
"""

from collections.abc import Callable

from opnode.core.crypto import AeadError
from opnode.protocols.rudp.acknowledgements import Acknowledgements
from opnode.protocols.rudp.channel import Channel, ReceiveState
from opnode.protocols.rudp.channel_table import ChannelTable
from opnode.protocols.rudp.connection_ids import ConnectionId
from opnode.protocols.rudp.frames import (
    BULK_HEADER_SIZE,
    BULK_OVERHEAD,
    DATA_TYPE,
    AckFrame,
    CloseFrame,
    DataFrame,
    Frame,
    PathChallengeFrame,
    PathResponseFrame,
    PingFrame,
    pack_data_header,
    parse_frames,
)
from opnode.protocols.rudp.packet import (
    HEADER_SIZE,
    KEY_PHASE_FLAG,
    MAX_PACKET_NUMBER,
    MAX_PACKET_SIZE,
    MIN_PACKET_SIZE,
    NONCE_AT,
    PREFIX_SIZE,
    PROOF_SIZE,
    TAG_SIZE,
    WIRE_NUMBER_MASK,
    unpack_wire_number,
)
from opnode.protocols.rudp.packet_keys import PacketKeys

# Answers of ``_take_frames``: how soon a packet wants to be acknowledged.
_NEVER, _SOON, _AT_ONCE = 0, 1, 2
_NO_CHANNEL = (-1, -1, -1)
# Frames that no acknowledgement is owed for.
_SILENT = (AckFrame, CloseFrame, PathChallengeFrame, PathResponseFrame)


class PacketReceiver:
    """Decrypts, refuses forgeries and replays, and feeds channels."""

    def __init__(
        self,
        *,
        keys: PacketKeys,
        connection_ids: dict[bytes, ConnectionId],
        acks: Acknowledgements,
        channels: ChannelTable,
        on_frame: Callable[[Frame, float], None],
    ) -> None:
        """Start with nothing received.

        Args:
            keys: Open what we receive.
            connection_ids: Ours that are in use, by their prefix.
            acks: Told about every authentic packet.
            channels: Where stream bytes go.
            on_frame: Takes every frame that does not come on the short way.
        """
        self.packets_received = 0
        self.bytes_received = 0
        self.duplicates = 0
        self.forged = 0
        self.malformed = 0
        self._keys = keys
        self._ids = connection_ids
        self._acks = acks
        self._channels = channels
        self._on_frame = on_frame
        self._current: Channel | None = None

    def receive_run(  # noqa: PLR0915 - one plain loop is the speed
        self, run: bytes, segment_size: int, now: float
    ) -> int:
        """Take in packets of one read: `segment_size` bytes each but the last.

        The hot loop of receiving, 1.6 µs a packet: locals instead of attributes, and
        what came the short way is counted by the run, not by the packet.

        Returns:
            How many packets were authentic and new.

        Raises:
            PeerViolationError: An authentic packet broke a rule.
        """
        # The phase may change within the run; these two belong together.
        decrypt, phase = self._keys.decrypt, self._keys.receive_phase
        acks = self._acks
        size, step = self._measure(run, segment_size)
        if not size:
            return 0
        chunk = max(step - BULK_OVERHEAD, 1)
        base = self._ids[run[:PREFIX_SIZE]].offset | phase
        first, expected = acks.next_number, acks.next_number + base
        accepted = short = eliciting = taken = haste = proof = 0
        channel_id, end, limit = self._resume(chunk)
        pieces: list[bytes] = []
        for start in range(0, size, step):
            body = start + HEADER_SIZE
            nonce, sealed = run[start + NONCE_AT : body], run[body : start + step]
            (wire_number,) = unpack_wire_number(run, start + PREFIX_SIZE)
            if wire_number == expected:
                try:
                    plaintext = decrypt(nonce, sealed, None)
                except AeadError:
                    self.forged += 1
                    continue
                expected += 1
                proof ^= plaintext[0]
            else:
                opened = self._open_other(wire_number, base, nonce, sealed)
                if opened is None:
                    continue
                number, plaintext = opened
                acks.received.add(first, expected - base, proof)
                first, proof = max(expected - base, number + 1), 0
                expected = first + base
                if number in acks.received:
                    self.duplicates += 1
                    continue
                acks.received.add(number, number + 1, plaintext[0])
                haste = 1
            is_bulk = end < limit and len(plaintext) == chunk + BULK_HEADER_SIZE
            if is_bulk and plaintext.startswith(
                pack_data_header(DATA_TYPE, channel_id, end, chunk), PROOF_SIZE
            ):
                pieces.append(plaintext[BULK_HEADER_SIZE:])
                end += chunk
                continue
            accepted += 1
            taken += len(plaintext)
            short += self._deliver(pieces, end)
            wants = self._take_frames(plaintext, now)
            eliciting, haste = eliciting + (wants > 0), haste + (wants == _AT_ONCE)
            channel_id, end, limit = self._resume(chunk)
        short += self._deliver(pieces, end)
        acks.extend(first, expected - base, proof)
        accepted += short
        self._count(accepted, taken + short * (BULK_HEADER_SIZE + chunk))
        if accepted:
            acks.on_received(eliciting=eliciting + short, at_once=haste > 0, now=now)
        return accepted

    def _count(self, packets: int, plaintext_bytes: int) -> None:
        self.packets_received += packets
        self.bytes_received += plaintext_bytes + packets * (HEADER_SIZE + TAG_SIZE)

    def _open_other(
        self, wire_number: int, base: int, nonce: bytes, sealed: bytes
    ) -> tuple[int, bytes] | None:
        """Open a packet that is not the next one: number and plaintext, or None."""
        phase = wire_number & ~WIRE_NUMBER_MASK
        number = (wire_number & WIRE_NUMBER_MASK) - (base & WIRE_NUMBER_MASK)
        if phase not in (0, KEY_PHASE_FLAG) or not 0 <= number <= MAX_PACKET_NUMBER:
            self.malformed += 1
            return None
        keys = self._keys
        if phase != keys.receive_phase:
            plaintext = keys.open_other_phase(number, nonce, sealed)
        else:
            try:
                plaintext = keys.decrypt(nonce, sealed, None)
            except AeadError:
                plaintext = None
        if plaintext is None:
            self.forged += 1
            return None
        return number, plaintext

    def _measure(self, run: bytes, segment_size: int) -> tuple[int, int]:
        """Return how many bytes hold packets of a valid size, and their step.

        The first packet speaks for all of a run: one that bears another id than it
        does not authenticate, as the id is part of the nonce.
        """
        size = len(run)
        step = segment_size if 0 < segment_size < size else max(size, 1)
        is_ours = run[:PREFIX_SIZE] in self._ids
        if not is_ours or not MIN_PACKET_SIZE <= step <= MAX_PACKET_SIZE:
            self.malformed += -(-size // step)
            return 0, step
        rest = size % step
        if 0 < rest < MIN_PACKET_SIZE:
            self.malformed += 1
            size -= rest
        return size, step

    def _resume(self, chunk: int) -> tuple[int, int, int]:
        """Return what the short way may take: channel, offset, and where it ends.

        Up to `limit`, exclusive, a whole chunk is within every credit. An impossible
        channel number closes the short way.
        """
        channel = self._current
        if channel is None or channel.receive_state is not ReceiveState.OPEN:
            return _NO_CHANNEL
        incoming = channel.incoming
        if incoming.has_gaps or incoming.final_size is not None:
            return _NO_CHANNEL
        end, credit = incoming.end, self._channels.credit
        room = min(channel.credit.limit - end, credit.limit - credit.received)
        return channel.channel_id, end, end + room - chunk + 1

    def _deliver(self, pieces: list[bytes], end: int) -> int:
        """Put what came the short way into its channel; returns how many pieces.

        The pieces stay as they are until they are read: joined here, every byte would
        be copied once more (0.4 µs a packet).
        """
        channel = self._current
        if channel is None or not pieces:
            return 0
        incoming = channel.incoming
        self._channels.credit.received += end - incoming.end
        incoming.end = incoming.highest = end
        incoming.chunks.extend(pieces)
        count = len(pieces)
        pieces.clear()
        self._channels.tell_readable(channel)
        return count

    def _take_frames(self, plaintext: bytes, now: float) -> int:
        """Hand on the frames of a packet; returns whether it wants an ACK, and soon."""
        wants = _NEVER
        for frame in parse_frames(plaintext, PROOF_SIZE):
            kind = type(frame)
            if isinstance(frame, DataFrame):
                channel = self._channels.for_frame(frame.channel_id)
                if channel is not None:
                    self._current = channel
                    self._channels.on_data(
                        channel, frame.offset, frame.data, fin=frame.fin
                    )
                wants = max(wants, _SOON)
                continue
            self._on_frame(frame, now)
            if kind is PingFrame:
                wants = _AT_ONCE
            elif kind not in _SILENT:
                wants = max(wants, _SOON)
        return wants
