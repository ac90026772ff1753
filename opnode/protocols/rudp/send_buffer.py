"""Bytes written to a channel and not yet acknowledged; knows offsets, not packets."""

from bisect import bisect_right

from opnode.core.ranges import RangeSet

# Smaller writes are joined until a block has this size, so that a million one-byte
# writes cost neither a million objects nor quadratic copying.
_BLOCK_SIZE = 4096


class SendBuffer:
    """The outgoing half of a channel as a byte range.

    ``base`` <= ``sent`` <= ``written``: below ``base`` all is acknowledged, from
    ``sent`` on nothing has ever been sent. What was lost waits in ``lost`` and goes
    first. ``limit`` is the peer's credit: offsets from there on may not be sent.
    """

    __slots__ = (
        "_acked",
        "_blocks",
        "_capacity",
        "_starts",
        "base",
        "channel_id",
        "fin_acked",
        "fin_pending",
        "finished",
        "limit",
        "lost",
        "sent",
        "written",
    )

    def __init__(self, channel_id: int, *, capacity: int, limit: int) -> None:
        """Start empty.

        Args:
            channel_id: The channel that the bytes belong to.
            capacity: Bytes held at most.
            limit: The credit to start with.
        """
        self.channel_id = channel_id
        self.limit = limit
        self.base = 0
        self.sent = 0
        self.written = 0
        self.finished = False
        self.fin_pending = False
        self.fin_acked = False
        # Their number of ranges is bounded by the capacity; forgetting is no option.
        self.lost = RangeSet(max_ranges=capacity)
        self._acked = RangeSet(max_ranges=capacity)
        self._capacity = capacity
        self._blocks: list[bytes] = []
        self._starts: list[int] = []

    @property
    def room(self) -> int:
        """Bytes that ``write`` would take now."""
        return self._capacity - (self.written - self.base)

    def write(self, data: memoryview) -> int:
        """Append as much as fits; returns how many bytes were taken."""
        taken = min(len(data), self.room)
        if taken <= 0:
            return 0
        piece = data[:taken]
        blocks = self._blocks
        if blocks and len(blocks[-1]) + taken <= _BLOCK_SIZE:
            blocks[-1] += piece
        else:
            blocks.append(_kept(piece))
            self._starts.append(self.written)
        self.written += taken
        return taken

    def finish(self) -> None:
        """Mark the end: what is written now is all."""
        if not self.finished:
            self.finished = True
            self.fin_pending = True

    def discard(self) -> None:
        """Drop everything: the channel was reset. ``sent`` is its final size."""
        self._blocks.clear()
        self._starts.clear()
        self.lost.clear()
        self.written = self.sent
        self.base = self.sent
        self.finished = True
        self.fin_pending = False

    def next_range(self, new_bytes: int) -> tuple[int, int]:
        """Return the range to send next, empty when there is none.

        Args:
            new_bytes: How many bytes never sent before the connection's credit allows.
        """
        if self.lost:
            return next(iter(self.lost))
        stop = min(self.written, self.limit, self.sent + new_bytes)
        return self.sent, max(stop, self.sent)

    @property
    def has_bare_fin(self) -> bool:
        """Whether nothing but the end mark is left to send."""
        return self.fin_pending and self.sent == self.written and not self.lost

    def take(self, start: int, stop: int) -> int:
        """Mark a range as sent; returns how many of its bytes are new."""
        if start == self.sent and not self.lost:
            self.sent = stop
            return stop - start
        self.lost.remove(start, stop)
        new = max(stop - self.sent, 0)
        self.sent += new
        return new

    def view(self, start: int, stop: int) -> memoryview:
        """Return the bytes of a range that is held, without a copy when possible."""
        starts, blocks = self._starts, self._blocks
        index = bisect_right(starts, start) - 1
        block, skipped = blocks[index], start - starts[index]
        missing = stop - start - (len(block) - skipped)
        if missing <= 0:
            return memoryview(block)[skipped : skipped + stop - start]
        pieces: list[bytes | memoryview] = [memoryview(block)[skipped:]]
        while missing > 0:
            index += 1
            block = blocks[index]
            whole = missing >= len(block)
            pieces.append(block if whole else memoryview(block)[:missing])
            missing -= len(block)
        return memoryview(b"".join(pieces))

    def copy_into(self, target: memoryview, start: int) -> None:
        """Fill a buffer with the bytes from an offset on; all of them are held."""
        starts, blocks = self._starts, self._blocks
        index = bisect_right(starts, start) - 1
        skipped, position, size = start - starts[index], 0, len(target)
        while position < size:
            piece = memoryview(blocks[index])[skipped : skipped + size - position]
            stop = position + len(piece)
            target[position:stop] = piece
            position, skipped = stop, 0
            index += 1

    def on_acked(self, start: int, stop: int) -> None:
        """The peer has a range: free what no hole keeps."""
        if self.lost:
            self.lost.remove(start, stop)
        if start > self.base:
            self._acked.add(start, stop)
            return
        if stop <= self.base:
            return
        if self._acked:
            self._acked.add(start, stop)
            stop = next(iter(self._acked))[1]
            self._acked.remove(0, stop)
        self.base = stop
        self._free()

    def on_lost(self, start: int, stop: int) -> None:
        """A packet with a range was lost: send again what is still needed."""
        start = max(start, self.base)
        for missing_start, missing_stop in self._acked.missing(start, stop):
            self.lost.add(missing_start, missing_stop)

    def on_fin_lost(self) -> None:
        """The packet with the end mark was lost."""
        self.fin_pending = self.finished and not self.fin_acked

    @property
    def is_delivered(self) -> bool:
        """Whether the peer has all bytes and the end mark."""
        return self.fin_acked and self.base == self.written

    def _free(self) -> None:
        starts = self._starts
        if self.base == self.written:
            starts.clear()
            self._blocks.clear()
            return
        keep = bisect_right(starts, self.base) - 1
        if keep >= 0 and starts[keep] + len(self._blocks[keep]) <= self.base:
            keep += 1
        if keep > 0:
            del starts[:keep]
            del self._blocks[:keep]


def _kept(piece: memoryview) -> bytes:
    """Return the bytes of a view, without a copy where it shows the whole of some."""
    source = piece.obj
    if type(source) is bytes and len(source) == piece.nbytes and piece.c_contiguous:
        return source
    return bytes(piece)
