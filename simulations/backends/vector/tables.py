"""Routing tables that exist while somebody looks at them.

Owns who is in which bucket of whom, drawn from a key, and what a node answers from
them. Refuses to know lookups. Bucket ``b`` of a node holds those that share exactly
``b`` leading bits with it: all of them, or ``k`` random ones where they are more.
"""

import enum
from typing import Final

import numpy as np
import numpy.typing as npt

from simulations.backends.vector.keyed import (
    Words,
    distinct,
    independent,
    streams,
    uniform,
)
from simulations.backends.vector.population import (
    Population,
    common_bits,
    leading_zeros,
)
from simulations.model.arrays import Places

NOBODY: Final = -1
"""In place of a node where there are fewer than were asked for."""

_FARTHEST: Final = np.uint64(2**64 - 1)
_LEAST_HEARD: Final = 0.5
_FEW: Final = 5
"""Times k: of more nodes than that, half are more than k beyond doubt."""
_TOP: Final = np.uint64(63)
_ONE: Final = np.uint64(1)


class Draw(enum.Enum):
    """How the members of a bucket are drawn where more nodes fit than it has room."""

    DISTINCT = "distinct"
    """``k`` different nodes: what a bucket is."""

    INDEPENDENT = "independent"
    """``k`` draws of any node, the same one perhaps twice: what closed forms take."""


class Tables:
    """The tables of a population.

    Args:
        key: 64 bits; the same key gives the same tables.
        heard: the chance that a node has ever heard of another, at least a half.

    Attributes:
        population: whose.
        k: the room of a bucket.
    """

    def __init__(
        self,
        population: Population,
        k: int,
        key: int,
        draw: Draw = Draw.DISTINCT,
        heard: float = 1.0,
    ) -> None:
        assert _LEAST_HEARD <= heard <= 1.0
        self.population = population
        self.k = k
        self._key = key
        self._is_distinct = draw is Draw.DISTINCT
        self._heard = heard

    def bucket(self, places: Places, buckets: Places) -> Places:
        """The members of one bucket of each node, in no order.

        Args:
            places: of the nodes.
            buckets: shared leading bits, 0 to 63, one for each.

        Returns:
            ``k`` rows, one column for each node; ``NOBODY`` below the last member.
        """
        ids = self.population.ids[places]
        flipped = ids ^ (_ONE << (_TOP - buckets.astype(np.uint64)))
        first, last = self.population.sharing(flipped, buckets + 1)
        sizes = last - first
        rows = np.arange(self.k, dtype=np.int64)[:, None]
        members = np.where(rows < sizes, first + rows, NOBODY)
        crowded = np.flatnonzero(sizes > self.k)
        if crowded.size:
            begins = streams(self._key, ids[crowded], buckets[crowded])
            draw = distinct if self._is_distinct else independent
            drawn = draw(begins, sizes[crowded], self.k)
            members[:, crowded] = first[crowded] + drawn
        if self._heard < 1.0:
            few = np.flatnonzero(sizes <= _FEW * self.k)
            begins = streams(self._key, ids[few], buckets[few])
            members[:, few] = self._heard_of(begins, first[few], sizes[few])
        return members

    def _heard_of(self, begins: Words, first: Places, sizes: Places) -> Places:
        """Members of buckets where it matters who was heard of: the first k heard."""
        widest = max(self.k, int(sizes.max(initial=0)))
        when = uniform(begins, widest)
        when[np.arange(widest)[:, None] >= sizes] = 1.0
        order = when.argsort(axis=0)[: self.k]
        unheard = np.take_along_axis(when, order, axis=0) >= self._heard
        return np.where(unheard, NOBODY, first + order)

    def distances(self, members: Places, keys: Words) -> Words:
        """How far members are from the key of their column; nobody is farthest."""
        away = self.population.ids[members] ^ keys
        away[members == NOBODY] = _FARTHEST
        return away

    def toward(self, places: Places, keys: Words) -> Places:
        """The contact of each node that is nearest to its key, or ``NOBODY``.

        Only the bucket that shares a bit more with the key than the node does: who
        else the node knows is no nearer than itself, except in the deeper buckets
        where that one is empty.
        """
        ids = self.population.ids[places]
        members = self.bucket(places, common_bits(ids, keys))
        nearest = self.distances(members, keys).argmin(axis=0)
        towards: Places = np.take_along_axis(members, nearest[None, :], axis=0)[0]
        return towards

    def answers(self, places: Places, keys: Words) -> Places:
        """What each node answers to a question for its key: whom it knows nearest.

        Returns:
            ``k`` rows in no order, one column for each node; ``NOBODY`` at the end of
            a column where a node knows fewer.
        """
        told = np.full((self.k, len(places)), NOBODY, dtype=np.int64)
        filled = np.zeros(len(places), dtype=np.int64)
        walk = _Walk(self.population, places, keys)
        asked = np.arange(len(places), dtype=np.int64)
        while asked.size:
            members = self.bucket(places[asked], walk.next_buckets(asked))
            found = (members != NOBODY).sum(axis=0)
            room = self.k - filled[asked]
            tight = np.flatnonzero(found > room)
            if tight.size:
                picked = members[:, tight]
                away = self.distances(picked, keys[asked[tight]])
                order = away.argsort(axis=0)
                members[:, tight] = np.take_along_axis(picked, order, axis=0)
            taken = np.minimum(found, room)
            rank, column = np.nonzero(np.arange(self.k)[:, None] < taken)
            told[filled[asked[column]] + rank, asked[column]] = members[rank, column]
            filled[asked] += taken
            asked = asked[(filled[asked] < self.k) & walk.goes_on(asked)]
        return told


class _Walk:
    """The buckets of nodes, those with members nearer to their keys first.

    Where node and key differ at a bit, the bucket of that bit lies on the key's side:
    nearer than the node itself and all buckets below. Where they agree, it lies on the
    other side: farther than the node and all buckets below.
    """

    def __init__(self, population: Population, places: Places, keys: Words) -> None:
        differ = population.ids[places] ^ keys
        # Below the deepest neighbour all buckets are empty.
        depths = population.depths(places).astype(np.uint64)
        worth = ~(_FARTHEST >> depths >> _ONE)
        self._nearer = differ & worth
        self._farther = ~differ & worth

    def next_buckets(self, rows: Places) -> Places:
        """The next bucket of each of these rows."""
        nearer, farther = self._nearer[rows], self._farther[rows]
        highest = leading_zeros(nearer)
        lowest = leading_zeros(farther & (~farther + _ONE))
        buckets = np.where(nearer > 0, highest, lowest)
        bit = _ONE << (_TOP - buckets.astype(np.uint64))
        self._nearer[rows] &= ~bit
        self._farther[rows] &= ~bit
        return buckets

    def goes_on(self, rows: Places) -> npt.NDArray[np.bool_]:
        """Whether each of these rows has another bucket."""
        return (self._nearer[rows] | self._farther[rows]) > 0
