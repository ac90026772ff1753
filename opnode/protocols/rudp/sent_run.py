"""Packets that were sent together, as one object; knows neither rules nor times."""

from typing import NamedTuple

from opnode.protocols.rudp.send_buffer import SendBuffer

ControlKey = tuple[int, int]


class SentPiece(NamedTuple):
    """Stream bytes in a mixed packet."""

    buffer: SendBuffer
    start: int
    stop: int
    fin: bool


class SendState(NamedTuple):
    """How far delivery was when packets left, for the rate that their ACK shows.

    Attributes:
        delivered: Bytes delivered in the whole connection by then.
        delivered_at: When the newest of them was acknowledged.
        first_sent_at: When that newest one had been sent.
        in_flight: Bytes in flight, these packets included.
        lost: Bytes declared lost in the whole connection by then.
        is_app_limited: Whether the application did not fill the pipe.
    """

    delivered: int
    delivered_at: float
    first_sent_at: float
    in_flight: int
    lost: int
    is_app_limited: bool


_UNKNOWN = SendState(0, 0.0, 0.0, 0, 0, False)


class SentRun:
    """Packets ``first`` to ``stop - 1``, sent at one time, each of ``size`` bytes.

    Either a bulk run, where packet ``first + i`` carries ``chunk`` bytes of ``buffer``
    from ``offset + i * chunk`` on, or one mixed packet with ``pieces`` and
    ``controls``. ``acks_below`` is where the ACK frame in it ended, 0 without one.
    ``state`` is the state of delivery when it left, ``is_marked`` whether it left with
    an ECN codepoint.
    """

    __slots__ = (
        "acks_below",
        "buffer",
        "chunk",
        "controls",
        "first",
        "is_marked",
        "offset",
        "pieces",
        "sent_at",
        "size",
        "state",
        "stop",
    )

    def __init__(self, first: int, stop: int, *, size: int, sent_at: float) -> None:
        """Describe the packets; the content is set by the builder."""
        self.first = first
        self.stop = stop
        self.size = size
        self.sent_at = sent_at
        self.buffer: SendBuffer | None = None
        self.offset = 0
        self.chunk = 0
        self.pieces: tuple[SentPiece, ...] = ()
        self.controls: tuple[ControlKey, ...] = ()
        self.acks_below = 0
        self.state = _UNKNOWN
        self.is_marked = False

    def stream_pieces(self, max_packets: int | None = None) -> tuple[SentPiece, ...]:
        """Return the stream bytes of all packets, or of the first few."""
        if self.buffer is None:
            return self.pieces
        count = self.stop - self.first
        if max_packets is not None:
            count = min(count, max_packets)
        stop = self.offset + count * self.chunk
        return (SentPiece(self.buffer, self.offset, stop, False),)

    @property
    def total_size(self) -> int:
        """Bytes of all packets together."""
        return (self.stop - self.first) * self.size

    def split(self, number: int) -> "SentRun":
        """Cut off and return the packets from `number` on; bulk runs only."""
        right = SentRun(number, self.stop, size=self.size, sent_at=self.sent_at)
        right.buffer = self.buffer
        right.chunk = self.chunk
        right.offset = self.offset + (number - self.first) * self.chunk
        right.state = self.state
        right.is_marked = self.is_marked
        self.stop = number
        return right
