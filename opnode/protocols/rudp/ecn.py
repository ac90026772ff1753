"""Whether the path carries ECN marks, and whether it is congested (RFC 9000 §13.4.2).

Owns the counts of what we sent marked and what the peer says it got. What a mark does
to the window is the business of the congestion controller.
"""

import enum

from opnode.protocols.rudp.frames import EcnCounts

# Codepoints of the IP header (RFC 3168 §5).
NOT_ECT, ECT_0 = 0, 2
# RFC 9000 §A.4: so many marked packets test the path before an answer is awaited.
_TEST_PACKETS = 10


class EcnState(enum.Enum):
    """What is known of the path."""

    TESTING = "testing"
    UNKNOWN = "unknown"
    CAPABLE = "capable"
    FAILED = "failed"


class EcnValidation:
    """Marks packets while that works, and turns it off when it does not.

    Attributes:
        state: What is known of the path.
        codepoint: What the packets that leave now are marked with.
    """

    state: EcnState
    codepoint: int

    __slots__ = (
        "_ce",
        "_ect_0",
        "_marked_acked",
        "_sent",
        "_tested",
        "codepoint",
        "state",
    )

    def __init__(self) -> None:
        """Start testing."""
        self._enter(EcnState.TESTING)
        self._sent = 0
        self._tested = 0
        self._ect_0 = 0
        self._ce = 0
        self._marked_acked = 0

    def on_sent(self, packets: int) -> None:
        """Count packets that left marked."""
        self._sent += packets
        if self.state is EcnState.TESTING:
            self._tested += packets
            if self._tested >= _TEST_PACKETS:
                self._enter(EcnState.UNKNOWN)

    def on_ack(self, counts: EcnCounts | None, marked: int) -> bool:
        """Check the counts of an ACK that acknowledged a new largest number.

        Args:
            counts: What it echoes, None for an ACK without counts.
            marked: How many newly acknowledged packets had left marked.

        Returns:
            Whether a router marked packets since the last one.
        """
        if self.state is EcnState.FAILED:
            return False
        if counts is None:
            if marked:
                self._enter(EcnState.FAILED)
            return False
        new_ect_0, new_ce = counts.ect0 - self._ect_0, counts.ce - self._ce
        if (
            new_ect_0 < 0
            or new_ce < 0
            or counts.ect1
            or new_ect_0 + new_ce < marked
            or counts.ect0 + counts.ce > self._sent
        ):
            self._enter(EcnState.FAILED)
            return False
        self._ect_0, self._ce = counts.ect0, counts.ce
        self._marked_acked += marked
        if marked and self.state is not EcnState.CAPABLE:
            # A router that marks whatever comes would keep the window at its least.
            is_usable = new_ect_0 > 0
            self._enter(EcnState.CAPABLE if is_usable else EcnState.FAILED)
        return new_ce > 0 and self.state is EcnState.CAPABLE

    def on_probe_timeout(self) -> None:
        """Nothing came back: perhaps the path drops marked packets (§A.4)."""
        if self.state is not EcnState.CAPABLE and self._sent:
            self._enter(EcnState.FAILED)

    def on_path_changed(self) -> None:
        """Another path: test anew."""
        self._enter(EcnState.TESTING)
        self._tested = 0

    def _enter(self, state: EcnState) -> None:
        self.state = state
        # Read for every packet, changed a few times in the life of a path.
        is_marking = state in (EcnState.TESTING, EcnState.CAPABLE)
        self.codepoint = ECT_0 if is_marking else NOT_ECT
