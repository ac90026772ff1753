"""What is owed to the peer for packets that arrived; authenticates nothing."""

from opnode.protocols.rudp.frames import (
    MAX_ACK_RANGES,
    AckFrequencyFrame,
    EcnCounts,
    encode_ack,
)
from opnode.protocols.rudp.receipts import Receipts

# A second packet that wants an acknowledgement gets it at once (RFC 9000 §13.2.2),
# until the peer asks for something else.
_PACKETS_PER_ACK = 2
# With more holes than this to report, the acknowledgement asks to be acknowledged
# itself, after which the ranges that it told need not be told again.
_RANGES_BEFORE_ASKING = 8
# A peer that asks for more than this delays nobody but itself, but not for ever.
MAX_ASKED_DELAY_S = 0.1
# RFC 3168 §5.
_ECT1, _ECT0 = 1, 2
_NO_ECN = EcnCounts(0, 0, 0)


class Acknowledgements:
    """Received packet numbers and the acknowledgement that is owed for them."""

    __slots__ = (
        "_ecn",
        "_eliciting",
        "_largest_at",
        "_max_delay_s",
        "_packets_per_ack",
        "_sequence",
        "deadline",
        "is_due",
        "minds_order",
        "next_number",
        "received",
    )

    def __init__(self, *, max_ranges: int, max_delay_s: float) -> None:
        """Start with nothing received.

        Args:
            max_ranges: Ranges remembered; below the oldest all counts as seen.
            max_delay_s: How long a lone packet may wait.
        """
        self.received = Receipts(max_ranges=max_ranges)
        # One above the largest number received.
        self.next_number = 0
        self.is_due = False
        # Whether a hole is told at once. A peer that asks for few acknowledgements
        # would get one for every run as soon as one packet in a hundred is lost.
        self.minds_order = True
        self.deadline: float | None = None
        self._max_delay_s = max_delay_s
        self._packets_per_ack = _PACKETS_PER_ACK
        self._sequence = -1
        self._eliciting = 0
        self._largest_at = 0.0
        self._ecn: EcnCounts | None = None

    def extend(self, first: int, stop: int, proof: int) -> None:
        """Add consecutive packet numbers ``[first, stop)``, the highest so far."""
        self.received.add(first, stop, proof)
        self.next_number = stop

    def count_ecn(self, codepoint: int, packets: int) -> None:
        """Count packets that arrived with an ECN codepoint, 1 to 3."""
        ect0, ect1, ce = self._ecn or _NO_ECN
        if codepoint == _ECT0:
            ect0 += packets
        elif codepoint == _ECT1:
            ect1 += packets
        else:
            ce += packets
            # The peer must hear of congestion at once (RFC 9000 §13.2.1).
            self.is_due = self._eliciting > 0
        self._ecn = EcnCounts(ect0, ect1, ce)

    def on_ack_frequency(self, frame: AckFrequencyFrame) -> None:
        """Acknowledge as often as the peer asks; an older request changes nothing."""
        if frame.sequence <= self._sequence:
            return
        self._sequence = frame.sequence
        self._packets_per_ack = frame.packets
        self.minds_order = frame.packets <= _PACKETS_PER_ACK
        self._max_delay_s = min(frame.max_delay_s, MAX_ASKED_DELAY_S)

    def on_received(self, *, eliciting: int, at_once: bool, now: float) -> None:
        """Note a run whose numbers were added to ``received``.

        Args:
            eliciting: How many of its packets want an acknowledgement.
            at_once: One was out of order or asks for haste.
            now: The present.
        """
        self._largest_at = now
        if not eliciting:
            return
        self._eliciting += eliciting
        if at_once or self._eliciting >= self._packets_per_ack:
            self.is_due = True
        elif self.deadline is None:
            self.deadline = now + self._max_delay_s

    def on_deadline(self, now: float) -> None:
        """Owe the acknowledgement from now on if it has waited long enough."""
        if self.deadline is not None and now >= self.deadline:
            self.is_due = True

    @property
    def is_pending(self) -> bool:
        """Whether the next packet should carry an acknowledgement."""
        return self._eliciting > 0

    @property
    def may_be_unheard(self) -> bool:
        """Whether something arrived of which the peer is not known to have heard."""
        return len(self.received) > 0

    @property
    def wants_confirmation(self) -> bool:
        """Whether the list of ranges has grown long enough to be cut."""
        return len(self.received) > _RANGES_BEFORE_ASKING

    def encode(self, now: float) -> bytes:
        """Return the ACK frame; call ``on_sent`` when it leaves."""
        ranges = self.received.highest(MAX_ACK_RANGES)
        return encode_ack(now - self._largest_at, ranges, self._ecn)

    def on_sent(self) -> None:
        """The acknowledgement is on its way; nothing is owed."""
        self._eliciting = 0
        self.is_due = False
        self.deadline = None

    def on_confirmed(self, below: int) -> None:
        """The peer has an ACK frame that ended at `below`: forget what it told."""
        self.received.forget_below(below)
