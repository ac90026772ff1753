"""Random numbers that are a function of what they are drawn for.

Owns the mixing of a key with a node and a bucket, and the draw of distinct places from
it. Refuses to know what a place holds. The same question has the same answer, whenever
and in whatever company it is asked, so nothing that was drawn needs to be kept.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from simulations.model.arrays import Places

Words = npt.NDArray[np.uint64]

# SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): a Weyl sequence, and its finaliser.
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)
_UNIT: Final = np.float64(2.0**-53)


def mixed(words: Words) -> Words:
    """A bijection of 64-bit words after which neighbours have nothing in common."""
    words = (words ^ (words >> np.uint64(30))) * _FIRST
    words = (words ^ (words >> np.uint64(27))) * _SECOND
    return words ^ (words >> np.uint64(31))


def streams(key: int, ids: Words, buckets: Places) -> Words:
    """Where the stream of each (key, id, bucket) begins.

    Args:
        key: 64 bits, of the whole network.
        ids: of the nodes.
        buckets: as many, or one.
    """
    of_key = mixed(np.array([key], dtype=np.uint64) + _STEP)
    of_nodes = mixed(ids ^ of_key)
    return mixed(of_nodes + buckets.astype(np.uint64) * _STEP)


def uniform(begins: Words, count: int) -> npt.NDArray[np.float64]:
    """The first ``count`` numbers in [0, 1) of each stream, one row for each number."""
    steps = np.arange(1, count + 1, dtype=np.uint64)[:, None] * _STEP
    drawn = mixed(begins + steps) >> np.uint64(11)
    return drawn.astype(np.float64) * _UNIT


def distinct(begins: Words, sizes: Places, count: int) -> Places:
    """Draw ``count`` different places of ``0 .. size-1`` in each stream, by Floyd.

    Args:
        begins: where the streams begin.
        sizes: of the sets that are drawn from, each at least ``count``.
        count: how many, at least 1.

    Returns:
        One row for each draw, one column for each stream; every subset is as likely.
    """
    # R. Floyd, CACM 30(9), 1987: the j-th draw is of one place more than the one
    # before, and that place itself replaces what was drawn already.
    tops = sizes - count + np.arange(count, dtype=np.int64)[:, None]
    drawn = (uniform(begins, count) * (tops + 1)).astype(np.int64)
    for row in range(1, count):
        again = (drawn[:row] == drawn[row]).any(axis=0)
        np.copyto(drawn[row], tops[row], where=again)
    return drawn


def independent(begins: Words, sizes: Places, count: int) -> Places:
    """Draw ``count`` places of ``0 .. size-1`` in each stream, perhaps one twice."""
    return (uniform(begins, count) * sizes).astype(np.int64)
