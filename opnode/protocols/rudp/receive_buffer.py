"""Bytes received on a channel and not yet read; knows offsets, not packets."""

from bisect import bisect_right
from collections import deque

from opnode.protocols.rudp.packet import CloseCode, PeerViolationError


class ReceiveBuffer:
    """The incoming half of a channel: an ordered part and islands behind holes.

    ``read_offset`` <= ``end`` <= ``highest``: up to ``end`` the bytes are contiguous
    and wait in ``chunks``. Islands are kept as growing byte arrays, sorted and never
    touching, so that memory is what was received plus a constant per hole.
    """

    __slots__ = (
        "_island_starts",
        "_islands",
        "_max_gaps",
        "chunks",
        "end",
        "final_size",
        "highest",
        "read_offset",
    )

    def __init__(self, *, max_gaps: int) -> None:
        """Start empty; at most `max_gaps` islands are kept."""
        self.chunks: deque[bytes] = deque()
        self.read_offset = 0
        self.end = 0
        self.highest = 0
        self.final_size: int | None = None
        self._max_gaps = max_gaps
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

    def insert(self, offset: int, data: bytes) -> None:
        """Put a piece in its place; parts that are here already are ignored.

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
        if not data:
            return
        if offset > self.end:
            self._insert_island(offset, data)
        elif stop > self.end:
            self.chunks.append(data[self.end - offset :] if offset < self.end else data)
            self.end = stop
            if self._islands:
                self._join_islands()

    def read(self, max_bytes: int) -> bytes:
        """Take up to `max_bytes` of what is in order; empty when nothing is."""
        chunks = self.chunks
        if not chunks:
            return b""
        if len(chunks[0]) > max_bytes:
            first = chunks[0]
            chunks[0] = first[max_bytes:]
            self.read_offset += max_bytes
            return first[:max_bytes]
        taken = [chunks.popleft()]
        size = len(taken[0])
        while chunks and size + len(chunks[0]) <= max_bytes:
            piece = chunks.popleft()
            taken.append(piece)
            size += len(piece)
        self.read_offset += size
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def discard(self) -> int:
        """Drop all that is held; returns how many bytes nobody had read.

        They count as read: everything up to ``highest`` is over.
        """
        unread = self.highest - self.read_offset
        self.chunks.clear()
        self._islands.clear()
        self._island_starts.clear()
        self.end = self.read_offset = self.highest
        return unread

    def _insert_island(self, offset: int, data: bytes) -> None:
        starts, islands = self._island_starts, self._islands
        index = bisect_right(starts, offset)
        if index:
            left = islands[index - 1]
            overlap = starts[index - 1] + len(left) - offset
            if overlap >= 0:
                if overlap < len(data):
                    left += data[overlap:] if overlap else data
                    self._swallow(index)
                return
        if len(islands) >= self._max_gaps:
            raise PeerViolationError(
                CloseCode.PROTOCOL_VIOLATION,
                f"more than {self._max_gaps} holes in the data of a channel",
            )
        starts.insert(index, offset)
        islands.insert(index, bytearray(data))
        self._swallow(index + 1)

    def _swallow(self, index: int) -> None:
        """Join the island before `index` with those that it now touches."""
        starts, islands = self._island_starts, self._islands
        left = islands[index - 1]
        while index < len(starts):
            stop = starts[index - 1] + len(left)
            if starts[index] > stop:
                return
            left += islands[index][stop - starts[index] :]
            del starts[index], islands[index]

    def _join_islands(self) -> None:
        starts, islands = self._island_starts, self._islands
        while starts and starts[0] <= self.end:
            piece = islands[0][self.end - starts[0] :]
            if piece:
                self.chunks.append(bytes(piece))
                self.end += len(piece)
            del starts[0], islands[0]
