"""Whether the peer is where its newest packet came from; sends nothing itself.

A source address can be made up, also by a peer that holds the keys: until an answer
proves that our packets arrive there, the path gets little (RFC 9000 §8, §9.3).
"""

from typing import Final

from opnode.protocols.rudp.violation import CloseCode, PeerViolationError

# RFC 9000 §8: what may be sent for each byte that came from there.
_AMPLIFICATION_LIMIT = 3
MAX_SKIPPED: Final = 1 << 14
"""Packet numbers that may be left out when the path changes. One guess in so many is
right; a connection survives 16,000 changes of path before its 2^28 numbers are over."""


class PathCheck:
    """What may still be sent to an unproven path, and what proves it.

    Numbers are skipped before the first packet for the new path: somebody who only
    pretends to have received it has to guess where they go on (RFC 9000 §21.4).
    """

    __slots__ = ("_skipped", "budget")

    def __init__(self, skipped: range, received: int) -> None:
        """Start with the packets that made us take the path.

        Args:
            skipped: Packet numbers that were left out; not empty.
            received: Bytes that came from there.
        """
        self.budget = 0
        self._skipped = skipped
        self.on_received(received)

    def on_received(self, size: int) -> None:
        """Authentic packets of this many bytes came from the path."""
        self.budget += _AMPLIFICATION_LIMIT * size

    def on_sent(self, size: int) -> None:
        """So many bytes left for the path."""
        self.budget -= size

    def is_passed(self, ranges: tuple[tuple[int, int], ...]) -> bool:
        """Tell whether these acknowledged ranges, highest first, prove the path.

        Raises:
            PeerViolationError: PROTOCOL_VIOLATION; a packet is acknowledged that was
                never sent.
        """
        skipped = self._skipped
        for start, stop in ranges:
            if start < skipped.stop and stop > skipped.start:
                raise PeerViolationError(
                    CloseCode.PROTOCOL_VIOLATION,
                    f"packets {start} to {stop - 1} are acknowledged, "
                    f"{skipped.start} to {skipped.stop - 1} were never sent",
                )
        return ranges[0][1] > skipped.stop
