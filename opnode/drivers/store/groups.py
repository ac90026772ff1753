"""How many records each group brought, and who brought the most.

Owns the counts. Refuses to know what a group is.
"""

from collections.abc import Mapping


class GroupCounts:
    """Counts by group; every step takes the same short time however many there are."""

    def __init__(self, counts: Mapping[bytes, int]) -> None:
        self._counts = {group: count for group, count in counts.items() if count > 0}
        # Groups by their count, so that the largest is found without a search.
        self._by_count: dict[int, dict[bytes, None]] = {}
        for group, count in self._counts.items():
            self._by_count.setdefault(count, {})[group] = None
        self._most = max(self._by_count, default=0)

    def count(self, group: bytes) -> int:
        """How many records the group brought that are held."""
        return self._counts.get(group, 0)

    def add(self, group: bytes) -> None:
        """One more."""
        self._move(group, self.count(group) + 1)

    def remove(self, group: bytes) -> None:
        """One less; a group that has none stays so, as after damage to the disk."""
        if group in self._counts:
            self._move(group, self.count(group) - 1)

    def largest(self, *, but: bytes) -> bytes | None:
        """Who brought the most, one group left out; None if there is nobody else.

        Of several that brought as many, the one that has done so for longest.
        """
        count = self._most
        while count > 0:
            for group in self._by_count.get(count, ()):
                if group != but:
                    return group
            # Only the one left out stood there: go on below it.
            count = self._next_below(count)
        return None

    def _next_below(self, count: int) -> int:
        return max((other for other in self._by_count if other < count), default=0)

    def _move(self, group: bytes, count: int) -> None:
        before = self._counts.pop(group, 0)
        if before:
            peers = self._by_count[before]
            del peers[group]
            if not peers:
                del self._by_count[before]
        if count:
            self._counts[group] = count
            self._by_count.setdefault(count, {})[group] = None
        # A count changes by one, so the most is here or one below.
        if count > self._most:
            self._most = count
        elif self._most not in self._by_count:
            self._most = self._most - 1 if self._most - 1 in self._by_count else count
