"""An application's pings that wait for their acknowledgement; sends none."""

from opnode.core.errors import LocalProtocolError
from opnode.protocols.rudp.control_queue import PROBE_PING_ID, ControlQueue
from opnode.protocols.rudp.frames import FrameType


class Pings:
    """When each was asked for, up to a limit."""

    __slots__ = ("_controls", "_last_id", "_maximum", "_since")

    def __init__(self, controls: ControlQueue, *, maximum: int) -> None:
        """Start with none; at most `maximum` are under way at once."""
        self._controls = controls
        self._maximum = maximum
        self._since: dict[int, float] = {}
        self._last_id = PROBE_PING_ID

    @property
    def has_room(self) -> bool:
        """Whether one more may start."""
        return len(self._since) < self._maximum

    def start(self, now: float) -> int:
        """Ask for a PING and return its number.

        Raises:
            LocalProtocolError: Too many are under way.
        """
        if not self.has_room:
            raise LocalProtocolError(f"{len(self._since)} pings are under way")
        self._last_id += 1
        self._since[self._last_id] = now
        self._controls.add(FrameType.PING, self._last_id)
        return self._last_id

    def on_acked(self, number: int, now: float) -> float | None:
        """Return the round trip, None for one that nobody waits for."""
        since = self._since.pop(number, None)
        return None if since is None else now - since

    def forget(self, number: int) -> None:
        """Wait for a ping no more; again is harmless."""
        self._since.pop(number, None)
        self._controls.discard(FrameType.PING, number)
