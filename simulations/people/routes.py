"""How many nodes a lookup asks, and how large a server's table is, among S servers.

Owns lookups over implicit tables: a table is what the shipped rules (dht §2.4: buckets
of k, split to a depth that is a multiple of five, one's own without end) make of the
sorted ids, with the members of a full bucket drawn when it is read. Refuses to know
latency, loss and what is looked up.

Ids are 64 bits, drawn uniformly: of 10^5 servers no two share 48 bits.
"""

import bisect
import random
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from opnode.protocols.lookup.config import LookupConfig
from opnode.protocols.routing.config import RoutingConfig
from simulations.model.ids import ID_BITS

_K: Final = LookupConfig().k
_ALPHA: Final = LookupConfig().alpha
_RELAXED_BITS: Final = RoutingConfig().relaxed_bits


class TableSize(NamedTuple):
    """Buckets of one server, those with members, and its contacts."""

    buckets: int
    contacts: int


class Asked(NamedTuple):
    """What a lookup asked.

    Attributes:
        nodes: in the order in which they were asked.
        on_the_way: how many before one of the k nearest was met.
    """

    nodes: list[int]
    on_the_way: int


class Range(NamedTuple):
    """Ids with one prefix: the first id, the shared bits, and places in the list."""

    first: int
    depth: int
    low: int
    high: int

    @property
    def size(self) -> int:
        """How many ids there are."""
        return self.high - self.low


_Splits = Callable[[Range], bool]


class Routes:
    """Tables and lookups among these servers.

    Args:
        ids: sorted, distinct, of 64 bits.
        rng: draws the members of full buckets.
    """

    def __init__(self, ids: Sequence[int], rng: random.Random) -> None:
        self._ids = ids
        self._rng = rng

    def table_size(self, own: int) -> TableSize:
        """The table of a server that met everybody often enough."""
        buckets = contacts = 0
        pending = [Range(0, 0, 0, len(self._ids))]
        while pending:
            one = pending.pop()
            if one.size > _K and self._may_split(one, own):
                pending.extend(self._halves(one))
            elif one.size:
                buckets += 1
                contacts += min(one.size, _K)
        return TableSize(buckets, contacts - 1)

    def lookup(self, target: int) -> Asked:
        """Ask until the k nearest have answered, beginning at k nodes met by chance."""
        ids = self._ids
        start = self._rng.sample(range(len(ids)), min(_K, len(ids)))
        known = {ids[place] for place in start}
        asked: dict[int, None] = {}
        on_the_way = 0
        region = set(self.nearest(target))
        while True:
            closest = sorted(known, key=target.__xor__)[:_K]
            fresh = [one for one in closest if one not in asked][:_ALPHA]
            if not fresh:
                return Asked(list(asked), on_the_way)
            if not region & asked.keys():
                on_the_way += len(fresh)
            asked.update(dict.fromkeys(fresh))
            for one in fresh:
                known.update(self._answer(one, target))

    def nearest(self, target: int) -> list[int]:
        """The k ids nearest to the target, the nearest first."""
        trail = self._trail(target, ID_BITS, lambda one: one.size > _K)
        # The last range is too small, or just large enough; the one above it is not.
        wide = trail[-2] if trail[-1].size < _K and len(trail) > 1 else trail[-1]
        members = self._ids[wide.low : wide.high]
        return sorted(members, key=target.__xor__)[:_K]

    def _answer(self, own: int, target: int) -> list[int]:
        """The k contacts nearest to the target that this server knows."""
        trail = self._trail(
            target, ID_BITS, lambda r: r.size > _K and self._may_split(r, own)
        )
        found = self._members(trail[-1])
        for outer, inner in zip(trail[-2::-1], trail[:0:-1], strict=True):
            if len(found) >= _K:
                break
            (sibling,) = (half for half in self._halves(outer) if half != inner)
            found += self._members(sibling)
        found.sort(key=target.__xor__)
        return found[:_K]

    def _members(self, one: Range) -> list[int]:
        places = range(one.low, one.high)
        if one.size > _K:
            return [self._ids[place] for place in self._rng.sample(places, _K)]
        return [self._ids[place] for place in places]

    def _trail(self, target: int, bits: int, splits: _Splits) -> list[Range]:
        """Ranges that hold the target, each half of the one before."""
        trail = [Range(0, 0, 0, len(self._ids))]
        while trail[-1].depth < bits and splits(trail[-1]):
            lower, upper = self._halves(trail[-1])
            trail.append(upper if target >= upper.first else lower)
        return trail

    def _halves(self, one: Range) -> tuple[Range, Range]:
        depth = one.depth + 1
        middle = one.first + (1 << ID_BITS - depth)
        place = bisect.bisect_left(self._ids, middle, one.low, one.high)
        return (
            Range(one.first, depth, one.low, place),
            Range(middle, depth, place, one.high),
        )

    def _may_split(self, one: Range, own: int) -> bool:
        is_ours = own >> ID_BITS - one.depth == one.first >> ID_BITS - one.depth
        return is_ours or one.depth % _RELAXED_BITS != 0
