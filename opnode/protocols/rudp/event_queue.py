"""Events that wait for the driver; bounded, and no channel is named twice."""

from collections import deque

from opnode.protocols.rudp.events import DatagramReceived, Event
from opnode.protocols.rudp.violation import CloseCode, PeerViolationError


class EventQueue:
    """First in, first out, with a limit that only a flooding peer reaches."""

    __slots__ = (
        "_datagrams",
        "_events",
        "_is_closed",
        "_max_datagrams",
        "_max_events",
        "dropped",
    )

    def __init__(self, *, max_events: int, max_datagrams: int) -> None:
        """Start empty.

        Args:
            max_events: Events of all kinds that may wait.
            max_datagrams: Unreliable messages that may wait; the newest is dropped.
        """
        self._events: deque[Event] = deque()
        self._max_events = max_events
        self._max_datagrams = max_datagrams
        self._datagrams = 0
        self._is_closed = False
        self.dropped = 0

    def __len__(self) -> int:
        """Return how many events wait."""
        return len(self._events)

    def add(self, event: Event) -> None:
        """Queue an event.

        Raises:
            PeerViolationError: PROTOCOL_VIOLATION; the peer causes more events in one
                run of packets than are kept.
        """
        if self._is_closed:
            return
        if len(self._events) >= self._max_events:
            raise PeerViolationError(
                CloseCode.PROTOCOL_VIOLATION,
                f"more than {self._max_events} events wait",
            )
        self._events.append(event)

    def close(self, event: Event) -> None:
        """Queue the last event, whatever the limit; later ones are dropped."""
        self._events.append(event)
        self._is_closed = True

    def add_datagram(self, data: bytes) -> None:
        """Queue an unreliable message, or count it as dropped."""
        if self._is_closed:
            return
        if self._datagrams >= self._max_datagrams:
            self.dropped += 1
            return
        self._datagrams += 1
        self.add(DatagramReceived(data))

    def take(self) -> Event | None:
        """Return the oldest event."""
        if not self._events:
            return None
        event = self._events.popleft()
        if isinstance(event, DatagramReceived):
            self._datagrams -= 1
        return event
