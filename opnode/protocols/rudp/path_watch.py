"""Whether the path in use still carries packets: silence, in steps; sends nothing.

A path is never given up for one lost packet: any authentic packet that comes on it
begins anew, and each step has asked once more before the next one comes.
"""

import enum
from typing import Final

BULK_PACKET: Final = 1200
"""Runs from this size on are bulk data."""

# A path must be left within three timeouts, so the last step is a little earlier.
_STEP_TIMEOUTS = (1.0, 2.0, 2.75)
# After this long there is no hope in waiting. A busy host is silent for 0.3 s at times.
_LOSS_TIMEOUTS = 4.0
_LEAST_LOSS_S = 0.4
_TELL_AGAIN_S = 1.0
# A receiver that got so much and then nothing asks what is the matter.
_STALL_BYTES = 64 * 1024
# So many reads of small packets are a call or a game: 3 % more packets at worst.
_STALL_READS = 32


class Silence(enum.Enum):
    """How long the peer has owed a packet.

    NONE: it owes none. SUSPECT: for one timeout; ask on every path. LEAVE: for two;
    take another path that answers. DEAD: for almost three; take any other.
    """

    NONE = 0
    SUSPECT = 1
    LEAVE = 2
    DEAD = 3


class PathWatch:
    """Counts the timeouts in which the active path was silent."""

    __slots__ = ("_bulk_in", "_heard_at", "_since", "_small_in", "_told_at", "silence")

    def __init__(self) -> None:
        """Start with nothing sent and nothing heard."""
        self.silence = Silence.NONE
        self._since: float | None = None
        self._bulk_in = self._small_in = 0
        self._heard_at = 0.0
        # When it was last told that the path is lost, None for not yet.
        self._told_at: float | None = None

    @property
    def owed_since(self) -> float | None:
        """Since when something is unanswered; None while nothing is."""
        return self._since

    def reset(self) -> None:
        """Another path is in use."""
        self.silence = Silence.NONE
        self._since = self._told_at = None

    def on_eliciting_sent(self, now: float) -> None:
        """Something left that the peer has to answer."""
        if self._since is None:
            self._since = now

    def on_heard(self, size: int, now: float) -> None:
        """Authentic packets of so many bytes came on the path."""
        self.silence = Silence.NONE
        self._since = self._told_at = None
        self._heard_at = now
        if size >= BULK_PACKET:
            self._bulk_in += size
        elif size:
            self._small_in += 1

    def deadline(self, timeout_s: float) -> float | None:
        """When ``take_step`` has something to tell."""
        if self._since is None or self.silence is Silence.DEAD:
            return None
        return self._since + _STEP_TIMEOUTS[self.silence.value] * timeout_s

    def take_step(self, now: float, timeout_s: float) -> Silence:
        """Return the step that was reached just now, NONE for none."""
        deadline = self.deadline(timeout_s)
        if deadline is None or now < deadline:
            return Silence.NONE
        self.silence = Silence(self.silence.value + 1)
        return self.silence

    def loss_deadline(self, timeout_s: float) -> float | None:
        """When ``takes_loss`` is due: one end or the other may have moved."""
        if self._since is None:
            return None
        if self._told_at is not None:
            return self._told_at + _TELL_AGAIN_S
        return self._since + max(_LOSS_TIMEOUTS * timeout_s, _LEAST_LOSS_S)

    def takes_loss(self, now: float, timeout_s: float) -> bool:
        """Whether to tell now that the path seems lost, once a second."""
        deadline = self.loss_deadline(timeout_s)
        if deadline is None or now < deadline:
            return False
        self._told_at = now
        return True

    @property
    def was_fed(self) -> bool:
        """Whether so much came that silence after it is worth a question."""
        return self._bulk_in >= _STALL_BYTES or self._small_in >= _STALL_READS

    def stall_deadline(self, timeout_s: float) -> float | None:
        """When ``takes_stall`` is due: bulk data came, and then nothing."""
        if not self.was_fed:
            return None
        return self._heard_at + timeout_s

    def takes_stall(self, now: float, timeout_s: float) -> bool:
        """Whether the sender should be asked now, once for each flow of data.

        If our own address changed, the sender does not know where to send: only a
        packet of ours can tell it (RFC 9000 §9.3 leaves this to the application).
        """
        deadline = self.stall_deadline(timeout_s)
        if deadline is None or now < deadline:
            return False
        self._bulk_in = self._small_in = 0
        return True
