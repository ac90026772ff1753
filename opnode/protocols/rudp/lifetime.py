"""How a connection ends: the states, the closing packets, silence and keep-alives."""

import enum
import math
import random

from opnode.protocols.rudp.config import RudpConfig

# RFC 9000 §10.2: long enough that packets under way have arrived or are gone.
_DRAIN_TIMEOUTS = 3
# The peer has a say in the round trip: without a cap, one that answers slowly would
# keep connections in memory for minutes after their end.
_MAX_DRAIN_S = 3.0
# CLOSE is not acknowledged, so it is sent three times, a probe timeout apart.
_CLOSE_COPIES = 3
# Enough to hear the peer's CLOSE behind what was under way.
_READS_WHILE_CLOSING = 64
# Two ends that fell silent together should not both send a PING.
_KEEP_ALIVE_JITTER = 0.2
# Keep-alives of all connections of a process fall on the same instants, four a second:
# one wake-up then serves a hundred of ten thousand idle connections instead of one.
_KEEP_ALIVES_PER_S = 4


class ConnectionState(enum.Enum):
    """Where a connection is in its life; it only moves downwards.

    OPEN: packets are exchanged. CLOSING: we ended it and repeat CLOSE. DRAINING: the
    peer ended it; nothing is sent but one answer. TERMINATED: forget it.
    """

    OPEN = "open"
    CLOSING = "closing"
    DRAINING = "draining"
    TERMINATED = "terminated"


class Lifetime:
    """State and timers; builds no packet."""

    __slots__ = (
        "_config",
        "_copies_left",
        "_copy_interval_s",
        "_drain_at",
        "_idle_at",
        "_keep_alive_at",
        "_keep_alive_s",
        "_next_copy_at",
        "_reads_left",
        "_rng",
        "_same_until",
        "close_frame",
        "close_pending",
        "state",
    )

    def __init__(self, config: RudpConfig, rng: random.Random) -> None:
        """Start open, with timers that stand still until ``on_heard``."""
        self.state = ConnectionState.OPEN
        self.close_frame = b""
        self.close_pending = False
        self._config = config
        self._rng = rng
        self._idle_at: float | None = None
        self._keep_alive_at: float | None = None
        self._keep_alive_s = 0.0
        self._drain_at: float | None = None
        self._copies_left = 0
        self._reads_left = _READS_WHILE_CLOSING
        self._next_copy_at: float | None = None
        self._copy_interval_s = 0.0
        self._draw_keep_alive()

    def on_heard(self, now: float) -> None:
        """An authentic packet arrived, or the first path was set."""
        self._idle_at = now + self._config.idle_timeout_s
        if self._keep_alive_s and now >= self._same_until:
            self._keep_alive_at = self._keep_alive_after(now)

    def start_closing(self, frame: bytes, *, now: float, timeout_s: float) -> None:
        """We end the connection.

        Args:
            frame: The CLOSE frame to repeat.
            now: The present.
            timeout_s: The probe timeout.
        """
        self.state = ConnectionState.CLOSING
        self.close_frame = frame
        self.close_pending = True
        self._copies_left = _CLOSE_COPIES
        interval_s = min(timeout_s, _MAX_DRAIN_S / _DRAIN_TIMEOUTS)
        self._copy_interval_s = interval_s
        self._drain_at = now + _DRAIN_TIMEOUTS * interval_s

    def start_draining(self, frame: bytes, *, now: float, timeout_s: float) -> None:
        """The peer ended the connection; the frame answers it once."""
        self.start_closing(frame, now=now, timeout_s=timeout_s)
        self.state = ConnectionState.DRAINING
        self._copies_left = 1

    def terminate(self) -> None:
        """Nothing will be sent or taken in any more."""
        self.state = ConnectionState.TERMINATED
        self.close_pending = False
        self._next_copy_at = None

    def on_close_sent(self, now: float) -> None:
        """One copy of the CLOSE frame left."""
        self.close_pending = False
        self._copies_left -= 1
        self._next_copy_at = now + self._copy_interval_s if self._copies_left else None

    def takes_packets(self) -> bool:
        """Whether to look at what arrives, which is asked once a read.

        While closing, only the peer's CLOSE matters, and missing that costs at most
        the three timeouts: a peer that was cut off must not keep us busy meanwhile.
        """
        if self.state is ConnectionState.OPEN:
            return True
        self._reads_left -= 1
        return self.state is not ConnectionState.TERMINATED and self._reads_left >= 0

    def on_packet_while_closing(self) -> None:
        """The peer does not know yet: repeat CLOSE while copies are left."""
        if self.state is not ConnectionState.TERMINATED:
            self.close_pending = self._copies_left > 0

    def on_deadline_while_closing(self, now: float) -> None:
        """Repeat CLOSE or end for good."""
        if self._drain_at is not None and now >= self._drain_at:
            self.terminate()
        elif self._next_copy_at is not None and now >= self._next_copy_at:
            self._next_copy_at = None
            self.close_pending = True

    def is_idle(self, now: float) -> bool:
        """Whether the peer was silent for too long."""
        return self._idle_at is not None and now >= self._idle_at

    def takes_keep_alive(self, now: float) -> bool:
        """Whether a PING is due; the next one is due an interval later."""
        if self._keep_alive_at is None or now < self._keep_alive_at:
            return False
        self._draw_keep_alive()
        self._keep_alive_at = self._keep_alive_after(now)
        return True

    def deadlines(self) -> tuple[float | None, ...]:
        """When something is due in the present state."""
        if self.state is ConnectionState.OPEN:
            return self._idle_at, self._keep_alive_at
        if self.state is ConnectionState.TERMINATED:
            return ()
        return self._drain_at, self._next_copy_at

    def _keep_alive_after(self, now: float) -> float:
        """Return the last common instant within the drawn interval."""
        interval_s = self._keep_alive_s
        ticks = math.floor((now + interval_s) * _KEEP_ALIVES_PER_S)
        at = ticks / _KEEP_ALIVES_PER_S
        if at <= now:
            return now + interval_s
        # It is the same for everything that is heard until then.
        self._same_until = min((ticks + 1) / _KEEP_ALIVES_PER_S - interval_s, at)
        return at

    def _draw_keep_alive(self) -> None:
        self._same_until = float("-inf")
        share = 1 - _KEEP_ALIVE_JITTER * self._rng.random()
        self._keep_alive_s = self._config.keep_alive_s * share
