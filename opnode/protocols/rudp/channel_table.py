"""All channels of a connection: numbers, limits, credit, life and death.

Applies the verbs of the application and the frames of the peer to channels. Knows
neither packets nor time.
"""

from opnode.core.errors import LocalProtocolError
from opnode.protocols.rudp import frames
from opnode.protocols.rudp.channel import (
    Channel,
    ReceiveState,
    SendNeed,
    SendState,
)
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.control_queue import ControlQueue
from opnode.protocols.rudp.credit import Credit
from opnode.protocols.rudp.event_queue import EventQueue
from opnode.protocols.rudp.events import (
    ChannelDelivered,
    ChannelOpened,
    ChannelReadable,
    ChannelReset,
    ChannelsAvailable,
    ChannelStopped,
    ChannelWritable,
)
from opnode.protocols.rudp.flow_control import FlowControl
from opnode.protocols.rudp.frames import (
    FrameType,
)
from opnode.protocols.rudp.receive_buffer import IslandLimit
from opnode.protocols.rudp.sent_run import ControlKey, SentPiece
from opnode.protocols.rudp.service_order import URGENCIES, ServiceOrder
from opnode.protocols.rudp.violation import CloseCode, PeerViolationError

# Channel numbers travel in 32 bits, and the lowest one says who opened it.
_MAX_CHANNELS_OPENED = 1 << 31


class ChannelTable:
    """Channels by number; the initiator opens even ones, the responder odd ones."""

    __slots__ = (
        "_channels",
        "_config",
        "_controls",
        "_count_credit",
        "_events",
        "_fresh",
        "_islands",
        "_may_open",
        "_opened",
        "_own_parity",
        "_ready",
        "_send_limit",
        "_send_used",
        "flow",
    )

    def __init__(
        self,
        *,
        initiator: bool,
        config: RudpConfig,
        events: EventQueue,
        controls: ControlQueue,
    ) -> None:
        """Start without channels and tell how many the peer may open."""
        # Who waits for its turn alone, and who needs the connection's credit as well:
        # without any, the latter need not be looked at.
        self._ready = ServiceOrder()
        self._fresh = ServiceOrder()
        self.flow = FlowControl(config, controls)
        self._count_credit = Credit(
            initial=frames.INITIAL_CHANNEL_COUNT, maximum=config.max_channels
        )
        self._count_credit.window = config.max_channels
        self._channels: dict[int, Channel] = {}
        self._islands = IslandLimit(config.max_gaps)
        self._config = config
        self._events = events
        self._controls = controls
        self._own_parity = 0 if initiator else 1
        self._opened = 0
        self._may_open = frames.INITIAL_CHANNEL_COUNT
        self._send_limit = frames.INITIAL_CONNECTION_CREDIT
        self._send_used = 0
        controls.add(FrameType.CHANNEL_COUNT)

    def __len__(self) -> int:
        """Return how many channels are not over."""
        return len(self._channels)

    # --- verbs of the application ---------------------------------------------------

    @property
    def channels_available(self) -> int:
        """How many channels may be opened now."""
        return self._may_open - self._opened

    def open(self) -> Channel:
        """Open a channel.

        Raises:
            LocalProtocolError: The peer allows no further one; see
                ``ChannelsAvailable``.
        """
        if self._opened >= self._may_open:
            raise LocalProtocolError(
                f"all {self._may_open} channels that the peer allows were opened"
            )
        channel = self._create(self._opened * 2 + self._own_parity)
        self._opened += 1
        channel.is_announced = False
        self._queue(channel)
        return channel

    def find(self, channel_id: int) -> Channel | None:
        """Return a channel, or None when it is over.

        Raises:
            LocalProtocolError: There never was one with this number.
        """
        channel = self._channels.get(channel_id)
        if channel is None and not self._was_opened(channel_id):
            raise LocalProtocolError(f"there is no channel {channel_id}")
        return channel

    def write(self, channel_id: int, data: memoryview) -> int:
        """Take bytes to be sent; returns how many, 0 also when the peer stopped it.

        Raises:
            LocalProtocolError: Our half was finished before.
        """
        channel = self.find(channel_id)
        if channel is None or channel.send_state in (SendState.RESET, SendState.OVER):
            return 0
        if channel.send_state is SendState.FINISHED:
            raise LocalProtocolError(f"channel {channel_id} was finished before")
        taken = channel.outgoing.write(data)
        channel.is_starved = taken < len(data)
        if taken:
            self._queue(channel)
        return taken

    def read(self, channel_id: int, max_bytes: int, now: float) -> bytes | None:
        """Take received bytes: None for nothing now, empty once at the end."""
        channel = self.find(channel_id)
        if channel is None or channel.receive_state is not ReceiveState.OPEN:
            return None
        data = channel.incoming.read(max_bytes)
        if data:
            self.flow.now = now
            self.flow.consume(channel, len(data))
            return data
        if not channel.incoming.is_at_end:
            return None
        self._end_receiving(channel, ReceiveState.OVER)
        self._retire(channel)
        return b""

    def finish(self, channel_id: int) -> None:
        """End our half after what was written."""
        channel = self.find(channel_id)
        if channel is not None and channel.send_state is SendState.OPEN:
            channel.send_state = SendState.FINISHED
            channel.is_starved = False
            channel.outgoing.finish()
            self._queue(channel)

    def set_urgency(self, channel_id: int, urgency: int) -> None:
        """Serve a channel before those of a higher number, from now on.

        Raises:
            LocalProtocolError: The urgency is not 0 to 7.
        """
        if not 0 <= urgency < URGENCIES:
            raise LocalProtocolError(
                f"an urgency of {urgency}, expected 0 to {URGENCIES - 1}"
            )
        channel = self.find(channel_id)
        if channel is not None:
            self._unqueue(channel)
            channel.urgency = urgency
            self._queue(channel)

    def reset(self, channel_id: int, code: int) -> None:
        """Give up our half; what was not delivered never will be."""
        channel = self.find(channel_id)
        if channel is not None:
            self._reset(channel, code)

    def stop_reading(self, channel_id: int, code: int) -> None:
        """Ask the peer to give up its half, and drop what it sent."""
        channel = self.find(channel_id)
        if channel is None or channel.receive_state is not ReceiveState.OPEN:
            return
        self._end_receiving(channel, ReceiveState.STOPPED)
        channel.stop_code = code
        self._controls.add(FrameType.STOP_READING, channel_id)
        self._drop_received(channel)

    def on_event_taken(self, channel_id: int) -> None:
        """The driver took ChannelReadable: the next bytes make a new one."""
        channel = self._channels.get(channel_id)
        if channel is not None:
            channel.is_readable_told = False

    # --- frames of the peer ---------------------------------------------------------

    def for_frame(self, channel_id: int) -> Channel | None:
        """Return the channel that a frame names, opened if need be; None when over.

        Raises:
            PeerViolationError: CHANNEL_LIMIT or PROTOCOL_VIOLATION; the peer may not
                open it, or it is ours and we have not.
        """
        channel = self._channels.get(channel_id)
        if channel is not None or self._was_opened(channel_id):
            return channel
        if channel_id & 1 == self._own_parity:
            raise PeerViolationError(
                CloseCode.PROTOCOL_VIOLATION,
                f"a frame names channel {channel_id}, which we have not opened",
            )
        count = (channel_id >> 1) + 1
        if count > self._count_credit.limit:
            raise PeerViolationError(
                CloseCode.CHANNEL_LIMIT,
                f"the peer opened {count} channels, "
                f"it was allowed {self._count_credit.limit}",
            )
        # Packets may come out of order: channels below this one are open, too.
        for index in range(self._count_credit.received, count):
            self._events.add(ChannelOpened(index * 2 + 1 - self._own_parity))
            self._create(index * 2 + 1 - self._own_parity)
            self._count_credit.received = index + 1
        return self._channels[channel_id]

    def on_frame(self, frame: frames.Frame) -> None:
        """Apply a frame about channels that holds no data; others change nothing."""
        match frame:
            case frames.ChannelCreditFrame(channel_id, limit):
                self.on_channel_credit(channel_id, limit)
            case frames.ConnectionCreditFrame(limit):
                self.on_connection_credit(limit)
            case frames.ChannelCountFrame(count):
                self.on_channel_count(count)
            case frames.ResetFrame(channel_id, code, final_size):
                self.on_reset(channel_id, code, final_size)
            case frames.StopReadingFrame(channel_id, code):
                self.on_stop_reading(channel_id, code)

    def on_data(self, channel: Channel, offset: int, data: bytes, *, fin: bool) -> bool:
        """Take in a DATA frame; returns whether it told anything new.

        Raises:
            PeerViolationError: FLOW_CONTROL, FINAL_SIZE or PROTOCOL_VIOLATION.
        """
        if channel.receive_state is ReceiveState.OVER:
            return False
        stop = offset + len(data)
        self.flow.account(channel, stop)
        incoming = channel.incoming
        before = incoming.end
        is_new = incoming.insert(offset, data)
        if fin:
            is_new = is_new or incoming.final_size is None
            incoming.set_final_size(stop)
        if channel.receive_state is ReceiveState.STOPPED:
            self._drop_received(channel)
        elif incoming.end > before or incoming.is_complete:
            self.tell_readable(channel)
        return is_new

    def on_reset(self, channel_id: int, code: int, final_size: int) -> None:
        """Take in a RESET frame; one that comes after all the data changes nothing."""
        channel = self.for_frame(channel_id)
        if channel is None or channel.receive_state is ReceiveState.OVER:
            return
        # Only a FIN makes an end: a reset after the last byte must not look like one.
        was_ended = channel.incoming.final_size is not None
        self.flow.account(channel, final_size)
        channel.incoming.set_final_size(final_size)
        is_whole = was_ended and channel.incoming.is_complete
        if is_whole and channel.receive_state is ReceiveState.OPEN:
            return
        if channel.receive_state is ReceiveState.OPEN:
            self._events.add(ChannelReset(channel_id, code))
        self._end_receiving(channel, ReceiveState.STOPPED)
        self._drop_received(channel)

    def on_stop_reading(self, channel_id: int, code: int) -> None:
        """Take in a STOP_READING frame: answer with RESET."""
        channel = self.for_frame(channel_id)
        if channel is not None and self._reset(channel, code):
            self._events.add(ChannelStopped(channel_id, code))

    def on_channel_credit(self, channel_id: int, limit: int) -> None:
        """Take in a CHANNEL_CREDIT frame; lower limits are old news."""
        channel = self.for_frame(channel_id)
        if channel is not None and limit > channel.outgoing.limit:
            channel.outgoing.limit = limit
            self._queue(channel)

    def on_connection_credit(self, limit: int) -> None:
        """Take in a CONNECTION_CREDIT frame; lower limits are old news."""
        self._send_limit = max(self._send_limit, limit)

    def on_channel_count(self, count: int) -> None:
        """Take in a CHANNEL_COUNT frame; lower counts are old news."""
        count = min(count, _MAX_CHANNELS_OPENED)
        if count > self._may_open:
            self._may_open = count
            self._events.add(ChannelsAvailable(count - self._opened))

    def tell_readable(self, channel: Channel) -> None:
        """Queue ChannelReadable unless one waits already."""
        if not channel.is_readable_told:
            channel.is_readable_told = True
            self._events.add(ChannelReadable(channel.channel_id))

    # --- sending --------------------------------------------------------------------

    @property
    def new_bytes_left(self) -> int:
        """Bytes never sent before that the peer's connection credit allows."""
        return self._send_limit - self._send_used

    def take_range(self, channel: Channel, start: int, stop: int) -> None:
        """Mark bytes as sent."""
        self._send_used += channel.outgoing.take(start, stop)
        channel.is_announced = True

    @property
    def has_data(self) -> bool:
        """Whether a DATA frame may be sent."""
        if self._ready.occupied:
            return True
        return self._fresh.occupied != 0 and self._send_used < self._send_limit

    def next_channel(self) -> Channel | None:
        """Return the channel whose turn it is, of those that may send."""
        ready, fresh = self._ready, self._fresh
        if self._send_used >= self._send_limit or ready.top <= fresh.top:
            return ready.first()
        return fresh.first()

    @property
    def only_writer(self) -> Channel | None:
        """The channel with new bytes to send, when nothing else is to be sent."""
        return None if self._ready.occupied else self._fresh.only

    def after_turn(self, channel: Channel) -> None:
        """A channel was served: let the others of its urgency go first."""
        was_queued_for = channel.queued_for
        self._queue(channel)
        if was_queued_for and channel.queued_for is was_queued_for:
            self._order_for(was_queued_for).move_to_back(channel)

    def encode_control(self, key: ControlKey) -> bytes:
        """Make a control frame, empty when it has become needless."""
        kind, number = key
        if kind == FrameType.PING:
            return frames.encode_ping(number)
        if kind == FrameType.CONNECTION_CREDIT:
            return frames.encode_connection_credit(self.flow.credit.raise_limit())
        if kind == FrameType.CHANNEL_COUNT:
            return frames.encode_channel_count(self._count_credit.raise_limit())
        channel = self._channels.get(number)
        return b"" if channel is None else _encode_for(channel, kind)

    # --- fate of what was sent ------------------------------------------------------

    def on_piece_acked(self, piece: SentPiece) -> None:
        """The peer has some bytes of a channel, perhaps with the end mark."""
        out = piece.buffer
        out.on_acked(piece.start, piece.stop)
        out.fin_acked = out.fin_acked or piece.fin
        channel = self._channels.get(out.channel_id)
        if channel is None:
            return
        if channel.send_state is SendState.FINISHED and out.is_delivered:
            channel.send_state = SendState.OVER
            self._events.add(ChannelDelivered(out.channel_id))
            self._retire(channel)
        elif channel.is_starved and out.room >= self._config.send_buffer // 4:
            channel.is_starved = False
            self._events.add(ChannelWritable(out.channel_id))

    def on_piece_lost(self, piece: SentPiece) -> None:
        """Some bytes of a channel did not arrive."""
        channel = self._channels.get(piece.buffer.channel_id)
        if channel is None:
            return
        if piece.start < piece.stop:
            piece.buffer.on_lost(piece.start, piece.stop)
        elif not piece.fin:
            channel.is_announced = False
        if piece.fin:
            piece.buffer.on_fin_lost()
        self._queue(channel)

    def on_reset_acked(self, channel_id: int) -> None:
        """The peer knows that we gave our half up."""
        channel = self._channels.get(channel_id)
        if channel is not None and channel.send_state is SendState.RESET:
            channel.send_state = SendState.OVER
            self._retire(channel)

    # --- inside ---------------------------------------------------------------------

    def _was_opened(self, channel_id: int) -> bool:
        index, parity = channel_id >> 1, channel_id & 1
        opened = (
            self._opened if parity == self._own_parity else self._count_credit.received
        )
        return 0 <= index < opened

    def _queue(self, channel: Channel) -> None:
        """Put a channel where it belongs after something about it changed."""
        need, before = channel.need, channel.queued_for
        if need is before:
            return
        # Plain and with truth for NOTHING: twice a message, 0.5 µs each.
        if before:
            self._order_for(before).discard(channel)
        channel.queued_for = need
        if need:
            self._order_for(need).add(channel)

    def _unqueue(self, channel: Channel) -> None:
        if channel.queued_for is not SendNeed.NOTHING:
            self._order_for(channel.queued_for).discard(channel)
            channel.queued_for = SendNeed.NOTHING

    def _order_for(self, need: SendNeed) -> ServiceOrder:
        return self._fresh if need is SendNeed.CREDIT else self._ready

    def _create(self, channel_id: int) -> Channel:
        config = self._config
        channel = Channel(
            channel_id,
            window=config.channel_window,
            send_buffer=config.send_buffer,
            islands=self._islands,
        )
        self._channels[channel_id] = channel
        return channel

    def _end_receiving(self, channel: Channel, state: ReceiveState) -> None:
        channel.receive_state = state
        self.flow.release(channel)

    def _reset(self, channel: Channel, code: int) -> bool:
        if channel.send_state in (SendState.RESET, SendState.OVER):
            return False
        channel.send_state = SendState.RESET
        channel.reset_code = code
        channel.is_starved = False
        channel.outgoing.discard()
        self._queue(channel)
        self._controls.add(FrameType.RESET, channel.channel_id)
        return True

    def _drop_received(self, channel: Channel) -> None:
        """Nobody will read this half: its bytes are consumed as they come."""
        incoming = channel.incoming
        if incoming.final_size is not None:
            incoming.highest = incoming.final_size
        self.flow.discard(incoming.discard())
        if incoming.final_size is not None:
            channel.receive_state = ReceiveState.OVER
            self._retire(channel)

    def _retire(self, channel: Channel) -> None:
        """Forget a channel of which both halves are over."""
        if not channel.is_over:
            return
        del self._channels[channel.channel_id]
        self._unqueue(channel)
        is_theirs = channel.channel_id & 1 != self._own_parity
        if is_theirs and self._count_credit.consume(1, 0.0):
            self._controls.add(FrameType.CHANNEL_COUNT)


def _encode_for(channel: Channel, kind: int) -> bytes:
    number = channel.channel_id
    if kind == FrameType.RESET:
        size = channel.outgoing.sent
        return frames.encode_reset(number, channel.reset_code, size)
    if kind == FrameType.STOP_READING:
        return frames.encode_stop_reading(number, channel.stop_code)
    if channel.incoming.final_size is not None:
        return b""
    return frames.encode_channel_credit(number, channel.credit.raise_limit())
