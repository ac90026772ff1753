"""Which packet numbers arrived, and when to say so; authenticates nothing.

Also the replay window: a number is accepted once, and never again below the floor.
"""

from itertools import islice

from opnode.core.ranges import RangeSet
from opnode.protocols.rudp.packet import MAX_ACK_RANGES, encode_ack

# A second packet that wants an acknowledgement gets it at once (RFC 9000 §13.2.2).
_PACKETS_PER_ACK = 2
# With more holes than this to report, the acknowledgement asks to be acknowledged
# itself, after which the ranges that it told need not be told again.
_RANGES_BEFORE_ASKING = 8


class Acknowledgements:
    """Received packet numbers and the acknowledgement that is owed for them."""

    __slots__ = (
        "_eliciting",
        "_largest_at",
        "_max_delay_s",
        "deadline",
        "is_due",
        "next_number",
        "received",
    )

    def __init__(self, *, max_ranges: int, max_delay_s: float) -> None:
        """Start with nothing received.

        Args:
            max_ranges: Ranges remembered; below the oldest all counts as seen.
            max_delay_s: How long a lone packet may wait.
        """
        self.received = RangeSet(max_ranges=max_ranges)
        self.received.prune_below(0)
        # One above the largest number received.
        self.next_number = 0
        self.is_due = False
        self.deadline: float | None = None
        self._max_delay_s = max_delay_s
        self._eliciting = 0
        self._largest_at = 0.0

    def is_known(self, number: int) -> bool:
        """Whether a packet number was seen, or is too old to tell."""
        floor = self.received.floor
        return (floor is not None and number < floor) or number in self.received

    def extend(self, first: int, stop: int) -> None:
        """Add consecutive packet numbers ``[first, stop)``, the highest so far."""
        self.received.add(first, stop)
        self.next_number = stop

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
        if at_once or self._eliciting >= _PACKETS_PER_ACK:
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
    def wants_confirmation(self) -> bool:
        """Whether the list of ranges has grown long enough to be cut."""
        return len(self.received) > _RANGES_BEFORE_ASKING

    def encode(self, now: float) -> bytes:
        """Return the ACK frame; call ``on_sent`` when it leaves."""
        ranges = list(islice(reversed(self.received), MAX_ACK_RANGES))
        return encode_ack(now - self._largest_at, ranges)

    def on_sent(self) -> None:
        """The acknowledgement is on its way; nothing is owed."""
        self._eliciting = 0
        self.is_due = False
        self.deadline = None

    def on_confirmed(self, below: int) -> None:
        """The peer has an ACK frame that ended at `below`: forget what it told.

        The last range told is kept, so that ``received`` never becomes empty.
        """
        self.received.prune_below(min(below, self.next_number - 1))
