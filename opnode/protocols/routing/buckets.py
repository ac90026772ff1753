"""A bucket: the contacts of one range of ids, and those that wait for a place there.

Built on ``kademlia``'s. Owns who gets a place and who steps in. Refuses to know other
buckets, except for how many contacts of one subnet the table holds.
"""

import math
from collections import Counter
from typing import Final, NamedTuple

from kademlia.routing import KBucket

from opnode.protocols.routing.config import RoutingConfig
from opnode.protocols.routing.entries import TableEntry

ID_BITS: Final = 160


class BucketView(NamedTuple):
    """A bucket for people to look at.

    Attributes:
        depth: bits that its ids share.
        prefix: those bits, as a number.
        contacts: contacts with a place.
        sure: of them, those that answered when they were last asked.
        replacements: contacts that wait for a place.
        oldest_s: for how long the senior contact has been known; 0 if there is none.
    """

    depth: int
    prefix: int
    contacts: int
    sure: int
    replacements: int
    oldest_s: float


class Bucket(KBucket):
    """A bucket that knows the subnet caps and takes its time from outside."""

    # Only `admit` adds to them, and it takes entries of ours. Plain dictionaries are
    # ordered too, at a third of the memory.
    nodes: dict[bytes, TableEntry]  # type: ignore[assignment]  # narrowed
    replacement_nodes: dict[bytes, TableEntry]  # type: ignore[assignment]  # too

    def __init__(
        self,
        lower: int,
        upper: int,
        config: RoutingConfig,
        groups: Counter[bytes] | None = None,
    ) -> None:
        """``groups`` counts the contacts of each subnet in the whole table."""
        super().__init__(lower, upper, config.k)
        self.nodes = {}
        self.replacement_nodes = {}
        self.max_replacement_nodes = config.replacements
        self._config = config
        self._groups = Counter[bytes]() if groups is None else groups

    def touch_last_updated(self) -> None:
        """Called by the library's constructor: nothing was looked up here yet."""
        self.last_updated = -math.inf

    def depth(self) -> int:
        """Bits that all ids of this range share."""
        return ID_BITS - (self.range[1] - self.range[0]).bit_length()

    def view(self, now: float) -> BucketView:
        """The bucket at this instant."""
        depth = self.depth()
        entries = self.nodes.values()
        return BucketView(
            depth=depth,
            prefix=self.range[0] >> ID_BITS - depth,
            contacts=len(entries),
            sure=sum(entry.is_sure for entry in entries),
            replacements=len(self.replacement_nodes),
            oldest_s=max((now - entry.known_at for entry in entries), default=0.0),
        )

    def halves(self) -> "tuple[Bucket, Bucket]":
        """Two buckets of half the range, with the entries distributed in order."""
        lower, upper = self.range
        middle = (lower + upper) // 2
        one = Bucket(lower, middle, self._config, self._groups)
        two = Bucket(middle + 1, upper, self._config, self._groups)
        for entry in self.nodes.values():
            half = one if entry.long_id <= middle else two
            half.nodes[entry.id] = entry
        for entry in self.replacement_nodes.values():
            half = one if entry.long_id <= middle else two
            half.replacement_nodes[entry.id] = entry
        one.last_updated = two.last_updated = self.last_updated
        return one, two

    def enter(self, entry: TableEntry) -> None:
        """Give an entry a place; the caller looked whether it may have one."""
        entry.is_waiting = False
        self.nodes[entry.id] = entry
        if entry.group is not None:
            self._groups[entry.group] += 1

    def leave(self, entry: TableEntry) -> None:
        """Take an entry's place away."""
        del self.nodes[entry.id]
        if entry.group is not None:
            self._groups[entry.group] -= 1
            if not self._groups[entry.group]:
                del self._groups[entry.group]

    def junior_to(self, entry: TableEntry) -> TableEntry | None:
        """Who has to step back for an entry when every place is taken.

        Those who are in stay: contacts that lived long live longer (Kademlia §2.2). A
        newcomer is no senior of anybody; one that is remembered from before may be.
        """
        junior = max(self.nodes.values(), key=lambda held: held.known_at)
        if entry.known_at >= junior.known_at or self.is_capped(entry, junior):
            return None
        return junior

    def wait(self, entry: TableEntry) -> TableEntry | None:
        """Let an entry wait for a place; returns who waited longest and must go.

        One subnet has no more waiting than it may have inside.
        """
        waiting = self.replacement_nodes
        waiting.pop(entry.id, None)
        waiting[entry.id] = entry
        entry.is_waiting = True
        if entry.group is not None:
            same = [e for e in waiting.values() if e.group == entry.group]
            if len(same) > self._config.subnet_cap:
                return waiting.pop(same[0].id)
        if len(waiting) <= self.max_replacement_nodes:
            return None
        return waiting.pop(next(iter(waiting)))

    def drop(self, entry: TableEntry) -> TableEntry | None:
        """Remove an entry; returns the one that stepped in: the one heard last."""
        if self.replacement_nodes.pop(entry.id, None) is None:
            self.leave(entry)
        return self.fill()

    def fill(self) -> TableEntry | None:
        """Give a free place to who waits; it is sure only once it answers again."""
        if len(self.nodes) >= self.ksize:
            return None
        for candidate in reversed(list(self.replacement_nodes.values())):
            if not self.is_capped(candidate):
                del self.replacement_nodes[candidate.id]
                candidate.is_sure = False
                self.enter(candidate)
                return candidate
        return None

    def has_room(self) -> bool:
        """Whether a place is free."""
        return len(self.nodes) < self.ksize

    def is_capped(self, entry: TableEntry, leaving: TableEntry | None = None) -> bool:
        """Whether its subnet has all the places that it may have."""
        group = entry.group
        if group is None:
            return False
        if leaving is not None and leaving.group == group:
            return False
        if self._groups[group] >= self._config.table_subnet_cap:
            return True
        same = sum(other.group == group for other in self.nodes.values())
        return same >= self._config.subnet_cap
