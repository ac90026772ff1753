"""How much a peer may make us do that moves nothing; knows no frame and no packet.

Data, datagrams and acknowledgements of what we sent pay for themselves. PINGs, padding,
path challenges, key shares and acknowledgements of nothing do not: a peer that sends
more of them than anybody needs costs the other connections of this node their time.
"""

from opnode.protocols.rudp.violation import CloseCode, PeerViolationError

PACKET_WORK = 4
"""Units of a packet, of about 1 µs each, whatever is in it."""
_BYTES_A_UNIT = 128
# Packets acknowledged for which an acknowledgement of nothing may yet come: more than
# any network holds up and brings in another order.
_MAX_ANSWERS = 4096


class WorkBudget:
    """Units of work that the peer may still cause; refilled by time and by progress."""

    __slots__ = ("_answers", "_at", "_burst", "_left", "_per_s")

    def __init__(self, *, burst: int, per_s: int) -> None:
        """Start full.

        Args:
            burst: Units that may be spent at once.
            per_s: Units that come back in a second.
        """
        self._burst = burst
        self._per_s = per_s
        self._left = float(burst)
        # How many packets were acknowledged beyond the acknowledgements that came.
        self._answers = 0
        self._at: float | None = None

    @property
    def left(self) -> float:
        """Units that were left when last settled, less what was spent since."""
        return self._left

    def spend(self, units: int) -> None:
        """Note work that moved nothing."""
        self._left -= units

    def on_ack(self, acked_bytes: int, packets: int, ranges: int) -> None:
        """Note an acknowledgement: it pays for itself by what it told us.

        One for each packet that we sent is never too many. Where the network changes
        the order of packets each is acknowledged at once, and most acknowledgements
        are overtaken by a newer one that tells the same.

        Args:
            acked_bytes: What it acknowledged that nobody had before.
            packets: How many packets these were.
            ranges: Ranges of it that we looked at.
        """
        if packets:
            self._answers = min(self._answers + packets - 1, _MAX_ANSWERS)
            self._left += PACKET_WORK + acked_bytes // _BYTES_A_UNIT
        elif self._answers:
            self._answers -= 1
            self._left += PACKET_WORK
        else:
            self._left -= ranges

    def settle(self, now: float) -> None:
        """Refill, and see whether the peer overdid it.

        Raises:
            PeerViolationError: EXCESSIVE_WORK.
        """
        if self._at is not None:
            self._left += (now - self._at) * self._per_s
        self._at = now
        if self._left > self._burst:
            self._left = float(self._burst)
        elif self._left < 0:
            raise PeerViolationError(
                CloseCode.EXCESSIVE_WORK,
                f"more than {self._burst} units of work that moved nothing, "
                f"and {self._per_s} a second",
            )
