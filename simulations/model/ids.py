"""Ids of 64 bits, as `event` and `vector` have them, and who is nearest to a key.

Owns that search over sorted ids: for one key, and for millions at once. Refuses to know
what the nodes are for.
"""

import bisect
import random
from collections.abc import Sequence
from typing import Final

import numpy as np

from simulations.model.arrays import Ids, Places

ID_BITS: Final = 64
_ONES: Final = (1 << ID_BITS) - 1
# So many keys at once: 64 candidates each are 50 MB.
_CHUNK: Final = 100_000


def draw_ids(generator: np.random.Generator, count: int) -> Ids:
    """Uniform ids as they come, maybe twice the same in 10^9 draws."""
    return generator.integers(0, _ONES, size=count, dtype=np.uint64, endpoint=True)


def sorted_ids(count: int, rng: random.Random) -> list[int]:
    """Sorted distinct ids."""
    ids: set[int] = set()
    while len(ids) < count:
        ids.add(rng.getrandbits(ID_BITS))
    return sorted(ids)


def nearest_to(ids: Sequence[int], key: int, count: int) -> list[int]:
    """Places in sorted ids of the nearest to one key, nearest first; at most ``count``.

    They share the most bits with the key, so they are in a row.
    """
    low, high = 0, len(ids)
    for bits in range(ID_BITS - 1, -1, -1):
        first = key >> bits << bits
        begin = bisect.bisect_left(ids, first, low, high)
        end = bisect.bisect_left(ids, first + (1 << bits), begin, high)
        if end - begin < count:
            break
        low, high = begin, end
    return sorted(range(low, high), key=lambda place: ids[place] ^ key)[:count]


def nearest_places(servers: Ids, keys: Ids, count: int) -> Places:
    """For each key the places of the nearest servers, the nearest first.

    Args:
        servers: sorted, distinct.
        keys: in any order.
        count: at most as many as there are servers.

    Returns:
        One row of ``count`` places in ``servers`` for each key.
    """
    found = np.empty((len(keys), count), dtype=np.int64)
    for start in range(0, len(keys), _CHUNK):
        part = keys[start : start + _CHUNK]
        found[start : start + _CHUNK] = _nearest_of_some(servers, part, count)
    return found


def _nearest_of_some(servers: Ids, keys: Ids, count: int) -> Places:
    low, high = _smallest_ranges(servers, keys, count)
    width = int((high - low).max())
    places = low[:, None] + np.arange(width)
    is_outside = places >= high[:, None]
    distances = servers[np.minimum(places, len(servers) - 1)] ^ keys[:, None]
    distances[is_outside] = _ONES
    order = np.argpartition(distances, count - 1, axis=1)[:, :count]
    near = np.take_along_axis(distances, order, axis=1)
    order = np.take_along_axis(order, np.argsort(near, axis=1), axis=1)
    return np.take_along_axis(places, order, axis=1)


def _smallest_ranges(servers: Ids, keys: Ids, count: int) -> tuple[Places, Places]:
    """Where the ids lie that share as many bits with a key as ``count`` of them can."""
    low = np.zeros(len(keys), dtype=np.int64)
    high = np.full(len(keys), len(servers), dtype=np.int64)
    open_keys = np.arange(len(keys))
    for depth in range(1, ID_BITS):
        mask = np.uint64(_ONES ^ (_ONES >> depth))
        first = keys[open_keys] & mask
        begin = np.searchsorted(servers, first, side="left")
        end = np.searchsorted(servers, first | ~mask, side="right")
        is_enough = end - begin >= count
        open_keys = open_keys[is_enough]
        if not len(open_keys):
            break
        low[open_keys], high[open_keys] = begin[is_enough], end[is_enough]
    return low, high
