"""The iterative lookup, a round of ``alpha`` questions at a time, many at once.

Owns whom a lookup asks next and when it knows the nearest node. Refuses to know how
tables came about, failures and liars: everybody answers, truthfully.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from simulations.backends.vector.keyed import Words
from simulations.backends.vector.tables import NOBODY, Tables
from simulations.model.arrays import Mask, Places
from simulations.model.round_trips import RoundTripLaw

_FARTHEST: Final = np.uint64(2**64 - 1)


class Rounds(NamedTuple):
    """What lookups took, one element for each.

    Attributes:
        rounds: until the nearest node was known; at least one, as nobody can tell
            before that its own nearest contact is the nearest of all.
        asked: how many nodes.
        took_s: a round is over when its last answer is there.
    """

    rounds: Places
    asked: Places
    took_s: npt.NDArray[np.float64]


class IterativeLookups:
    """Lookups that all follow the same rule, over the same tables."""

    def __init__(
        self,
        tables: Tables,
        alpha: int,
        law: RoundTripLaw,
        generator: np.random.Generator,
    ) -> None:
        """Ask ``alpha`` nodes a round; an answer takes a round trip of the law."""
        self._tables = tables
        self._alpha = alpha
        self._law = law
        self._generator = generator

    def run(self, askers: Places, keys: Words) -> Rounds:
        """Look for the node nearest to each key, each by one asker.

        Each keeps the k nearest that it heard of, itself left out, and asks those of
        them that it has not asked, nearest first.
        """
        count = len(askers)
        nearest = _nearest_other(self._tables, askers, keys)
        told = self._tables.answers(askers, keys)
        known = np.full((self._tables.k, count), NOBODY, dtype=np.int64)
        done = np.ones(known.shape, dtype=bool)
        known, done = _merged(self._tables, keys, (known, done), told)
        found = Rounds(
            np.zeros(count, dtype=np.int64),
            np.zeros(count, dtype=np.int64),
            np.zeros(count),
        )
        under_way = np.arange(count)
        while under_way.size:
            state = known[:, under_way], done[:, under_way]
            places, asked = self._asked(askers, keys, under_way, state, found)
            known[:, under_way], done[:, under_way] = places, asked
            lasting = (places[0] != nearest[under_way]) & ~asked.all(axis=0)
            under_way = under_way[lasting]
        return found

    def _asked(
        self,
        askers: Places,
        keys: Words,
        rows: Places,
        state: tuple[Places, Mask],
        found: Rounds,
    ) -> tuple[Places, Mask]:
        """One round of some lookups."""
        known, done = state
        # Nearest first, so the first alpha that are not done.
        turn = np.cumsum(~done, axis=0)
        picked = ~done & (turn <= self._alpha)
        place, column = np.nonzero(picked)
        of = rows[column]
        answers = self._tables.answers(known[place, column], keys[of])
        answers[answers == askers[of]] = NOBODY
        told = np.full((self._alpha * self._tables.k, len(rows)), NOBODY, np.int64)
        by_turn = told.reshape(self._alpha, self._tables.k, len(rows))
        by_turn[turn[place, column] - 1, :, column] = answers.T
        trips = np.zeros((self._alpha, len(rows)))
        trips[turn[place, column] - 1, column] = self._law.draw(
            self._generator, len(place)
        )
        found.rounds[rows] += 1
        found.asked[rows] += picked.sum(axis=0)
        found.took_s[rows] += trips.max(axis=0)
        return _merged(self._tables, keys[rows], (known, done | picked), told)


def _merged(
    tables: Tables, keys: Words, state: tuple[Places, Mask], told: Places
) -> tuple[Places, Mask]:
    """The k nearest of what was known and what was told, each once, nearest first.

    Where there are fewer, the rest is nobody, and done.
    """
    known, done = state
    everybody = np.concatenate([known, told])
    asked = np.concatenate([done, np.zeros(told.shape, dtype=bool)])
    away = tables.distances(everybody, keys)
    # Stable: what was known comes before the same node when it is told again.
    order = away.argsort(axis=0, kind="stable")
    away = np.take_along_axis(away, order, axis=0)
    again = np.zeros(away.shape, dtype=bool)
    again[1:] = away[1:] == away[:-1]
    away[again] = _FARTHEST
    nearest = away.argsort(axis=0, kind="stable")[: tables.k]
    order = np.take_along_axis(order, nearest, axis=0)
    missing = np.take_along_axis(away, nearest, axis=0) == _FARTHEST
    places = np.take_along_axis(everybody, order, axis=0)
    places[missing] = NOBODY
    return places, np.take_along_axis(asked, order, axis=0) | missing


def _nearest_other(tables: Tables, askers: Places, keys: Words) -> Places:
    """The node nearest to each key that is not its asker."""
    first, second = tables.population.nearest(keys, 2)
    other: Places = np.where(first == askers, second, first)
    return other
