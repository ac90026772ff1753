"""Events that wait for the driver; bounded, and no channel is named twice."""

from opnode.protocols.rudp.events import DatagramReceived, Event, PathSilent
from opnode.protocols.rudp.violation import CloseCode, PeerViolationError

# Events already taken go out together, so that a long queue is not moved for each.
_TAKEN_KEPT = 256


class EventQueue:
    """First in, first out, with a limit that only a flooding peer reaches."""

    __slots__ = (
        "_datagrams",
        "_events",
        "_is_closed",
        "_max_datagrams",
        "_max_events",
        "_taken",
        "dropped",
    )

    def __init__(self, *, max_events: int, max_datagrams: int) -> None:
        """Start empty.

        Args:
            max_events: Events of all kinds that may wait.
            max_datagrams: Unreliable messages that may wait; the newest is dropped.
        """
        # Events from ``_taken`` on wait. An empty deque would take 760 bytes.
        self._events: list[Event] = []
        self._taken = 0
        self._max_events = max_events
        self._max_datagrams = max_datagrams
        self._datagrams = 0
        self._is_closed = False
        self.dropped = 0

    def __len__(self) -> int:
        """Return how many events wait."""
        return len(self._events) - self._taken

    def add(self, event: Event) -> None:
        """Queue an event.

        Raises:
            PeerViolationError: PROTOCOL_VIOLATION; the peer causes more events in one
                run of packets than are kept.
        """
        if self._is_closed:
            return
        if len(self._events) - self._taken >= self._max_events:
            raise PeerViolationError(
                CloseCode.PROTOCOL_VIOLATION,
                f"more than {self._max_events} events wait",
            )
        self._events.append(event)

    def add_own(self, event: Event) -> None:
        """Queue an event that no frame caused, whatever the limit.

        At most one comes with a read, a burst or a timer: it raises nothing there.
        """
        if not self._is_closed:
            self._events.append(event)

    def add_silence(self) -> None:
        """Queue that the path is silent; as rare as the timer that tells it."""
        self.add_own(PathSilent())

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
        event = self._events[self._taken]
        self._taken += 1
        if self._taken >= min(len(self._events), _TAKEN_KEPT):
            del self._events[: self._taken]
            self._taken = 0
        if isinstance(event, DatagramReceived):
            self._datagrams -= 1
        return event
