"""Which contacts are nearest to an id: the hot path of every node that is asked.

Owns the contacts in the order of their ids. Refuses to know buckets and who may enter.
"""

import bisect

from opnode.protocols.routing.entries import TableEntry


class NearestIndex:
    """Entries in the order of their ids, for an exact search by XOR distance."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._entries: dict[int, TableEntry] = {}
        self._packed: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, entry: TableEntry) -> None:
        """Take an entry in; one of the same id is replaced."""
        if entry.long_id not in self._entries:
            bisect.insort(self._ids, entry.long_id)
        self._entries[entry.long_id] = entry
        self._packed[entry.long_id] = entry.packed

    def get(self, long_id: int) -> TableEntry | None:
        """The entry with this id."""
        return self._entries.get(long_id)

    def discard(self, entry: TableEntry) -> None:
        """Take an entry out, if it is in."""
        if self._entries.pop(entry.long_id, None) is not None:
            del self._packed[entry.long_id]
            del self._ids[bisect.bisect_left(self._ids, entry.long_id)]

    def nearest(self, target: int, count: int) -> list[TableEntry]:
        """The exact ``count`` nearest entries, nearest first.

        All ids that share a prefix with the target are nearer to it than all others
        and stand side by side: only the shortest such run that is long enough has to
        be sorted (7 µs for 20 of 500).
        """
        entries = self._entries
        return [entries[number] for number in self._nearest(target, count)]

    def nearest_packed(self, target: int, count: int) -> list[bytes]:
        """The same entries as replies name them."""
        # Not from the entries: each would be a step to another place of the memory.
        packed = self._packed
        return [packed[number] for number in self._nearest(target, count)]

    def _nearest(self, target: int, count: int) -> list[int]:
        ids = self._ids
        if len(ids) > count:
            first, last = self._run(target, count)
            ids = ids[first:last]
        return sorted(ids, key=target.__xor__)[:count]

    def _run(self, target: int, count: int) -> tuple[int, int]:
        """Where the smallest aligned range of ``count`` ids around a target stands."""
        ids = self._ids
        total = len(ids)
        place = bisect.bisect_left(ids, target)
        # Half of what is wanted lies on one side of the target, so the range reaches
        # at least so far on the nearer side.
        half = (count + 1) // 2
        bits = min(
            (ids[place - half] ^ target).bit_length() if place >= half else 160,
            (ids[place + half - 1] ^ target).bit_length()
            if place + half <= total
            else 160,
        )
        while True:
            start = target >> bits << bits
            first = bisect.bisect_left(ids, start)
            last = bisect.bisect_left(ids, start + (1 << bits), first)
            if last - first >= count:
                return first, last
            # Straight to the range that holds the next id on either side.
            bits = min(
                (ids[first - 1] ^ target).bit_length() if first else 161,
                (ids[last] ^ target).bit_length() if last < total else 161,
            )
