"""Which packet numbers arrived, with the proof of it; decides nothing.

Also the replay window: below the floor every number counts as seen.
"""

from bisect import bisect_left, bisect_right

Receipt = tuple[int, int, int]


class Receipts:
    """Sorted, disjoint, half-open ranges ``[start, stop)``, each with a proof byte.

    The proof is the exclusive or of the proof bytes of all packets in the range
    (``receipt_proof``), so a range can grow but never be cut: what is forgotten is
    forgotten by whole ranges.
    """

    __slots__ = ("_max_ranges", "_proofs", "_starts", "_stops", "floor")

    def __init__(self, *, max_ranges: int) -> None:
        """Start empty.

        Args:
            max_ranges: Ranges kept; one more forgets the lowest.
        """
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._proofs: list[int] = []
        self._max_ranges = max_ranges
        self.floor = 0

    def __len__(self) -> int:
        """Return how many ranges there are."""
        return len(self._starts)

    def __contains__(self, number: int) -> bool:
        """Tell whether a number was seen, or is too old to tell."""
        if number < self.floor:
            return True
        index = bisect_right(self._stops, number)
        return index < len(self._starts) and self._starts[index] <= number

    def add(self, start: int, stop: int, proof: int) -> None:
        """Add the new packets ``[start, stop)``; none of them may be known."""
        if start == stop:
            return
        stops = self._stops
        if stops and stops[-1] == start:
            stops[-1] = stop
            self._proofs[-1] ^= proof
        elif not stops or start > stops[-1]:
            self._insert(len(stops), start, stop, proof)
        else:
            self._fill(start, stop, proof)

    def forget_below(self, number: int) -> None:
        """Forget the ranges that end at or below a number; the last one is kept."""
        gone = min(bisect_right(self._stops, number), len(self._stops) - 1)
        if gone > 0:
            self._drop(gone)

    def highest(self, count: int) -> list[Receipt]:
        """Return up to `count` ranges with their proofs, highest first."""
        if len(self._starts) == 1:
            # Nothing is missing, as most of the time: a third of the cost.
            return [(self._starts[0], self._stops[0], self._proofs[0])]
        found = zip(
            self._starts[-count:],
            self._stops[-count:],
            self._proofs[-count:],
            strict=True,
        )
        return list(found)[::-1]

    def _fill(self, start: int, stop: int, proof: int) -> None:
        """Put packets into a hole; they may touch a range on either side."""
        starts, stops, proofs = self._starts, self._stops, self._proofs
        index = bisect_left(stops, start)
        touches_left = stops[index] == start
        right = index + 1 if touches_left else index
        touches_right = right < len(starts) and starts[right] == stop
        if touches_left:
            stops[index] = stop
            proofs[index] ^= proof
            if touches_right:
                stops[index] = stops[right]
                proofs[index] ^= proofs[right]
                del starts[right], stops[right], proofs[right]
        elif touches_right:
            starts[right] = start
            proofs[right] ^= proof
        else:
            self._insert(index, start, stop, proof)

    def _insert(self, index: int, start: int, stop: int, proof: int) -> None:
        self._starts.insert(index, start)
        self._stops.insert(index, stop)
        self._proofs.insert(index, proof)
        if len(self._starts) > self._max_ranges:
            self._drop(1)

    def _drop(self, count: int) -> None:
        """Forget the lowest ranges; numbers below the next one count as seen."""
        del self._starts[:count], self._stops[:count], self._proofs[:count]
        self.floor = max(self.floor, self._starts[0])
