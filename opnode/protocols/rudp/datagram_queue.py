"""Unreliable messages that wait to leave; bounded, and tells of room again."""

from opnode.core.errors import LocalProtocolError
from opnode.protocols.rudp.event_queue import EventQueue
from opnode.protocols.rudp.events import DatagramRoom
from opnode.protocols.rudp.frames import MAX_DATAGRAM_SIZE


class DatagramQueue:
    """First in, first out."""

    __slots__ = ("_events", "_is_missed", "_maximum", "waiting")

    def __init__(self, events: EventQueue, maximum: int) -> None:
        """Start empty.

        Args:
            events: Gets ``DatagramRoom`` after a message was refused.
            maximum: Messages that may wait.
        """
        self._maximum = maximum
        self._events = events
        # A list, where an empty deque would take 600 bytes more.
        self.waiting: list[bytes] = []
        self._is_missed = False

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self.waiting)

    @property
    def first_size(self) -> int:
        """Bytes of the message that leaves next, 0 without one."""
        return len(self.waiting[0]) if self.waiting else 0

    def put(self, data: bytes | bytearray | memoryview) -> bool:
        """Queue a message; false when there is no room, ``DatagramRoom`` will follow.

        Raises:
            LocalProtocolError: It does not fit one packet.
        """
        if len(data) > MAX_DATAGRAM_SIZE:
            raise LocalProtocolError(
                f"a datagram has at most {MAX_DATAGRAM_SIZE} bytes, "
                f"this one has {len(data)}"
            )
        if len(self.waiting) >= self._maximum:
            self._is_missed = True
            return False
        self.waiting.append(bytes(data))
        return True

    def take(self) -> bytes:
        """Take the message that leaves next; half empty again, the queue says so."""
        data = self.waiting.pop(0)
        if self._is_missed and 2 * len(self.waiting) <= self._maximum:
            self._is_missed = False
            self._events.add_own(DatagramRoom())
        return data
