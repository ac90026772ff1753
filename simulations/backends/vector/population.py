"""The ids of a whole network, sorted.

Owns the ids and what their order answers: who shares a prefix, who is nearest. Refuses
to know who knows whom. A node is its place in the order; it costs 8 bytes.
"""

from typing import Final

import numpy as np

from simulations.backends.vector.keyed import Words
from simulations.model.arrays import Places
from simulations.model.ids import ID_BITS

_ALL: Final = np.uint64(2**64 - 1)
_HALF: Final = np.uint64(32)
_ONE: Final = np.uint64(1)
_FLOAT_BITS: Final = 53
_SLOT: Final = 8
"""Ids in a slot of the index: two cache lines."""
_MAX_INDEX_BITS: Final = 24


def leading_zeros(words: Words) -> Places:
    """How many leading bits of each word are 0; 64 of 0."""
    high = words >> _HALF
    # A float holds 32 bits exactly, but would round 64 up to a power of two.
    _, upper = np.frexp(high.astype(np.float64))
    _, lower = np.frexp((words & (_ALL >> _HALF)).astype(np.float64))
    return np.where(high > 0, 32 - upper, 64 - lower).astype(np.int64)


def common_bits(left: Words, right: Words) -> Places:
    """How many leading bits two ids share, element by element; 64 of equal ones."""
    return leading_zeros(left ^ right)


class Population:
    """Ids in their order.

    Attributes:
        ids: ascending, all different.
    """

    def __init__(self, ids: Words) -> None:
        """Take ids over.

        Raises:
            ValueError: they are not ascending, or one is there twice.
        """
        if len(ids) == 0 or (ids[1:] <= ids[:-1]).any():
            raise ValueError("ids must be ascending and different, and at least one")
        self.ids = ids
        bits = min(_MAX_INDEX_BITS, max(1, (len(ids) // _SLOT).bit_length()))
        self._shift = np.uint64(ID_BITS - bits)
        slots = np.arange(2**bits, dtype=np.uint64) << self._shift
        begins = np.searchsorted(ids, slots).astype(np.int64)
        self._begins = np.append(begins, len(ids))
        widest = int(np.diff(self._begins).max())
        self._widths = [1 << bit for bit in reversed(range(widest.bit_length()))]

    @classmethod
    def drawn(cls, generator: np.random.Generator, count: int) -> "Population":
        """Uniform ids; the rare ones that come twice are drawn again.

        They are drawn in order: uniform points are as far apart as exponential gaps,
        scaled to fill the space (Rényi), which takes half the time of sorting.
        """
        # In place: each array of 10^7 numbers is 80 MB.
        upper = generator.standard_exponential(count + 1)
        upper.cumsum(out=upper)
        upper *= 2.0**_FLOAT_BITS / upper[-1]
        # The last gap may be lost in rounding.
        np.minimum(upper, 2.0**_FLOAT_BITS - 1.0, out=upper)
        ids = upper[:-1].astype(np.uint64)
        ids <<= np.uint64(ID_BITS - _FLOAT_BITS)
        lower = 2 ** (ID_BITS - _FLOAT_BITS)
        ids |= generator.integers(0, lower, count, dtype=np.uint16)
        while (ids[1:] <= ids[:-1]).any():
            ids.sort()
            again = np.flatnonzero(ids[1:] == ids[:-1])
            ids[again] = generator.integers(0, 2**64, again.size, dtype=np.uint64)
        return cls(ids)

    def __len__(self) -> int:
        return len(self.ids)

    def sharing(self, keys: Words, bits: Places) -> tuple[Places, Places]:
        """Where those begin and end who share that many leading bits with each key.

        Args:
            keys: any ids.
            bits: 0 to 64, as many, or one.

        Returns:
            First places, and places one past the last.
        """
        free = np.where(
            bits == 0, _ALL, _ALL >> (np.maximum(bits, 1).astype(np.uint64) - _ONE) >> 1
        )
        first = self._rank(keys & ~free, np.less)
        return first, self._rank(keys | free, np.less_equal)

    def _rank(self, keys: Words, before: np.ufunc) -> Places:
        """How many ids come before each key.

        Among 10^7 ids 0.1 µs a key, where ``searchsorted`` takes 1.4: it walks through
        memory 23 times for each, and this looks at one slot of the index.
        """
        slots = keys >> self._shift
        place: Places = self._begins[slots]
        last = self._begins[slots + _ONE]
        for width in self._widths:
            probe = np.minimum(place + width, last)
            # Where the slot has ended the probe is the place itself.
            np.copyto(place, probe, where=before(self.ids[probe - 1], keys))
        return place

    def depths(self, places: Places) -> Places:
        """The most leading bits that each node shares with any other."""
        ids = self.ids
        here = ids[places]
        after = common_bits(here, ids[np.minimum(places + 1, len(ids) - 1)])
        before = common_bits(here, ids[np.maximum(places - 1, 0)])
        after[places == len(ids) - 1] = 0
        before[places == 0] = 0
        return np.maximum(after, before)

    def nearest(self, keys: Words, count: int) -> Places:
        """The nodes nearest to each key, nearest first.

        Args:
            keys: any ids.
            count: how many, at most the population.

        Returns:
            One row for each rank, one column for each key.
        """
        first, last = self._least_region(keys, count)
        widest = int((last - first).max(initial=count))
        places = first + np.arange(widest, dtype=np.int64)[:, None]
        outside = places >= last
        away = self.ids[np.minimum(places, len(self.ids) - 1)] ^ keys
        away[outside] = _ALL
        # Nobody outside can come before one inside, unless at the very last distance.
        order = np.lexsort((outside, away), axis=0)[:count]
        return np.take_along_axis(places, order, axis=0)

    def _least_region(self, keys: Words, count: int) -> tuple[Places, Places]:
        """The ranges of the longest prefixes of the keys that ``count`` nodes share."""
        # By bisection over the length of the prefix.
        enough = np.zeros(len(keys), dtype=np.int64)
        too_many = np.full(len(keys), ID_BITS + 1, dtype=np.int64)
        while (too_many - enough > 1).any():
            middle = (enough + too_many) // 2
            first, last = self.sharing(keys, middle)
            holds = last - first >= count
            enough = np.where(holds, middle, enough)
            too_many = np.where(holds, too_many, middle)
        return self.sharing(keys, enough)
