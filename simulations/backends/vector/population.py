"""The ids of a whole network, sorted.

Owns the ids and what their order answers: who shares a prefix, who is nearest. Refuses
to know who knows whom. A node is its place in the order; it costs 8 bytes.
"""

from typing import Final

import numpy as np

from simulations.backends.vector.keyed import Places, Words

ID_BITS: Final = 64
_ALL: Final = np.uint64(2**64 - 1)
_HALF: Final = np.uint64(32)
_ONE: Final = np.uint64(1)


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

    @classmethod
    def drawn(cls, generator: np.random.Generator, count: int) -> "Population":
        """Uniform ids; the rare ones that come twice are drawn again."""
        ids = generator.integers(0, 2**64, count, dtype=np.uint64)
        ids.sort()
        while (again := np.flatnonzero(ids[1:] == ids[:-1])).size:
            ids[again] = generator.integers(0, 2**64, again.size, dtype=np.uint64)
            ids.sort()
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
        first = np.searchsorted(self.ids, keys & ~free, side="left")
        last = np.searchsorted(self.ids, keys | free, side="right")
        return first.astype(np.int64), last.astype(np.int64)

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
