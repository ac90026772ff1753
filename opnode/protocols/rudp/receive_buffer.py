"""Bytes received on a channel and not yet read; knows offsets, not packets."""

from bisect import bisect_right
from collections import deque

from opnode.protocols.rudp.violation import CloseCode, PeerViolationError

# A Python object costs about 60 bytes besides what it holds, so smaller pieces are put
# together until they are this long: a peer that sends byte by byte costs what it sent.
_JOINED_SIZE = 4096
# Pieces from here on are worth an object of their own, and are not copied.
_WHOLE_SIZE = 1024
# Islands grow up to this size: a piece in front of one copies no more than this.
_ISLAND_SIZE = 1 << 16


class IslandLimit:
    """How many islands all channels of a connection hold together.

    An island costs up to 200 bytes besides its content: counted for each channel by
    itself, a peer could make a thousand times as many.
    """

    __slots__ = ("count", "maximum")

    def __init__(self, maximum: int) -> None:
        """Start with none."""
        self.maximum = maximum
        self.count = 0

    def take(self) -> None:
        """Count one more.

        Raises:
            PeerViolationError: PROTOCOL_VIOLATION; there are too many.
        """
        if self.count >= self.maximum:
            raise PeerViolationError(
                CloseCode.PROTOCOL_VIOLATION,
                f"more than {self.maximum} holes in the data of all channels",
            )
        self.count += 1


class ReceiveBuffer:
    """The incoming half of a channel: an ordered part and islands behind holes.

    ``read_offset`` <= ``end`` <= ``highest``: up to ``end`` the bytes are contiguous
    and wait in ``chunks``. Islands are growing byte arrays, sorted, never overlapping,
    and touching only where they would be too long together. Memory is what was received
    plus a constant per hole.
    """

    __slots__ = (
        "_island_starts",
        "_islands",
        "_limit",
        "chunks",
        "end",
        "final_size",
        "highest",
        "read_offset",
    )

    def __init__(self, limit: IslandLimit) -> None:
        """Start empty; islands count against the limit of the connection."""
        self.chunks: deque[bytes | bytearray] = deque()
        self.read_offset = 0
        self.end = 0
        self.highest = 0
        self.final_size: int | None = None
        self._limit = limit
        self._islands: list[bytearray] = []
        self._island_starts: list[int] = []

    @property
    def has_gaps(self) -> bool:
        """Whether bytes wait behind a hole."""
        return bool(self._islands)

    @property
    def is_complete(self) -> bool:
        """Whether every byte up to the end mark is here."""
        return self.end == self.final_size

    @property
    def is_at_end(self) -> bool:
        """Whether every byte up to the end mark was read."""
        return self.read_offset == self.final_size

    def set_final_size(self, size: int) -> None:
        """Note where the stream ends.

        Raises:
            PeerViolationError: FINAL_SIZE; it changed or bytes beyond it are here.
        """
        changed = self.final_size is not None and self.final_size != size
        if changed or size < self.highest:
            raise PeerViolationError(
                CloseCode.FINAL_SIZE,
                f"the final size is {size}, before it was "
                f"{self.final_size if changed else f'at least {self.highest}'}",
            )
        self.final_size = size

    def insert(self, offset: int, data: bytes) -> bool:
        """Put a piece in its place; parts that are here already are ignored.

        Returns:
            Whether a byte of it was new.

        Raises:
            PeerViolationError: FINAL_SIZE when it lies beyond the end mark,
                PROTOCOL_VIOLATION when it makes more holes than are kept.
        """
        stop = offset + len(data)
        if stop > self.highest:
            if self.final_size is not None and stop > self.final_size:
                raise PeerViolationError(
                    CloseCode.FINAL_SIZE,
                    f"data up to {stop} behind the final size {self.final_size}",
                )
            self.highest = stop
        if not data or stop <= self.end:
            return False
        if offset > self.end:
            return self._insert_island(offset, data)
        self._append(data[self.end - offset :] if offset < self.end else data)
        self.end = stop
        if self._islands:
            self._join_islands()
        return True

    def read(self, max_bytes: int) -> bytes:
        """Take up to `max_bytes` of what is in order; empty when nothing is."""
        chunks = self.chunks
        if not chunks:
            return b""
        size = self.end - self.read_offset
        if size <= max_bytes:
            data = b"".join(chunks)
            chunks.clear()
            self.read_offset += size
            return data
        first = chunks[0]
        if len(first) > max_bytes:
            chunks[0] = first[max_bytes:]
            self.read_offset += max_bytes
            return bytes(first[:max_bytes])
        taken: list[bytes | bytearray] = []
        left = max_bytes
        while (left := left - len(chunks[0])) >= 0:
            taken.append(chunks.popleft())
        data = b"".join(taken)
        self.read_offset += len(data)
        return data

    def discard(self) -> int:
        """Drop all that is held; returns how many bytes nobody had read.

        They count as read: everything up to ``highest`` is over.
        """
        unread = self.highest - self.read_offset
        self.chunks.clear()
        self._limit.count -= len(self._islands)
        self._islands.clear()
        self._island_starts.clear()
        self.end = self.read_offset = self.highest
        return unread

    def _append(self, data: bytes | bytearray) -> None:
        """Add a piece to what is in order; small ones share an object."""
        chunks = self.chunks
        last = chunks[-1] if chunks else b""
        if type(last) is bytearray and len(last) < _JOINED_SIZE:
            last += data
        elif len(data) < _WHOLE_SIZE:
            chunks.append(bytearray(data))
        else:
            chunks.append(data)

    def _insert_island(self, offset: int, data: bytes) -> bool:
        starts, islands = self._island_starts, self._islands
        index = bisect_right(starts, offset)
        if index:
            left = islands[index - 1]
            overlap = starts[index - 1] + len(left) - offset
            if overlap >= len(data):
                return False
            if overlap >= 0:
                data = data[overlap:]
                offset += overlap
                if len(left) + len(data) <= _ISLAND_SIZE:
                    left += data
                    self._swallow(index)
                    return True
        self._limit.take()
        starts.insert(index, offset)
        islands.insert(index, bytearray(data))
        self._swallow(index + 1)
        return True

    def _swallow(self, index: int) -> None:
        """Join the island before `index` with those that it now touches."""
        starts, islands = self._island_starts, self._islands
        left = islands[index - 1]
        stop = starts[index - 1] + len(left)
        while index < len(starts) and starts[index] <= stop:
            right = islands[index]
            overlap = stop - starts[index]
            if len(left) + max(len(right) - overlap, 0) > _ISLAND_SIZE:
                if overlap:
                    del right[:overlap]
                    starts[index] = stop
                return
            left += right[overlap:]
            stop = starts[index - 1] + len(left)
            self._remove_island(index)

    def _join_islands(self) -> None:
        starts, islands = self._island_starts, self._islands
        while starts and starts[0] <= self.end:
            piece = islands[0]
            del piece[: self.end - starts[0]]
            if piece:
                self._append(piece)
                self.end += len(piece)
            self._remove_island(0)

    def _remove_island(self, index: int) -> None:
        del self._island_starts[index], self._islands[index]
        self._limit.count -= 1
