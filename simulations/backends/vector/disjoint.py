"""Disjoint greedy paths: several ways to the holders of a key, no node asked twice.

Owns whom each path asks, and where it ends. Refuses to know what is made of them. Paths
take turns, a question each; a path hands on to whom it was told of that is nearest to
the key and that no path has asked. It arrives when it asks a holder, one of as many
nodes nearest to the key as there are paths, so that each can have its own.
"""

import enum
from typing import Final, NamedTuple

import numpy as np

from simulations.backends.vector.keyed import Words
from simulations.backends.vector.population import Population
from simulations.backends.vector.tables import NOBODY, Tables
from simulations.model.arrays import Mask, Places

_FARTHEST: Final = np.uint64(2**64 - 1)


class Paths(NamedTuple):
    """Paths of lookups.

    Attributes:
        asked: nodes, shape (steps, paths, lookups); ``NOBODY`` after the end of a path.
        arrived: whether the last one holds the key, shape (paths, lookups).
    """

    asked: Places
    arrived: Mask

    def lengths(self) -> Places:
        """How many nodes each path asked, shape (paths, lookups)."""
        counts: Places = (self.asked != NOBODY).sum(axis=0)
        return counts

    def clean(self, liars: Mask) -> Mask:
        """Which paths arrived and asked no liar, shape (paths, lookups)."""
        lying = liars[self.asked] & (self.asked != NOBODY)
        clean: Mask = self.arrived & ~lying.any(axis=0)
        return clean

    def are_disjoint(self) -> bool:
        """Whether no lookup asked a node twice, on one path or on two."""
        steps, paths, lookups = self.asked.shape
        asked = np.sort(self.asked.reshape(steps * paths, lookups), axis=0)
        return not ((asked[1:] == asked[:-1]) & (asked[1:] != NOBODY)).any()


class Lie(enum.StrEnum):
    """Whom a liar names: always liars."""

    ANY = "any"
    """Some, wherever they are: whoever asks gets no nearer, and learns little."""

    NEAREST = "nearest"
    """Those nearest to the key, as if it knew them all; none of them is asked again."""


class Gang:
    """Liars who answer with nobody but liars.

    Attributes:
        is_liar: by place, for the whole population.
    """

    def __init__(self, population: Population, liars: Places, lie: Lie) -> None:
        """Take the places of at least one liar, in any order."""
        self._lie = lie
        self.is_liar = np.zeros(len(population), dtype=bool)
        self.is_liar[liars] = True
        self._places = np.flatnonzero(self.is_liar)
        self._members = Population(population.ids[self._places])

    def answers(self, keys: Words, k: int, generator: np.random.Generator) -> Places:
        """What any liar says: ``k`` rows, ``NOBODY`` below the last of a small gang."""
        if self._lie is Lie.ANY:
            named = generator.integers(0, len(self._places), (k, len(keys)))
            return self._places[named]
        told = np.full((k, len(keys)), NOBODY, dtype=np.int64)
        count = min(k, len(self._members))
        told[:count] = self._places[self._members.nearest(keys, count)]
        return told


class DisjointLookups:
    """Lookups over so many disjoint paths each.

    Args:
        tables: of the population; ``paths`` is at most its k.
        gang: who lies; nobody when it is None.
    """

    def __init__(self, tables: Tables, paths: int, gang: Gang | None = None) -> None:
        self._tables = tables
        self._paths = paths
        self._gang = gang

    def run(self, askers: Places, keys: Words, generator: np.random.Generator) -> Paths:
        """Look for the holders of each key, each by one asker.

        The asker's own contacts are dealt to the paths at random, as S/Kademlia does.
        """
        holders = self._holders(askers, keys)
        told = self._dealt(askers, keys, generator)
        reached = np.full((self._paths, len(keys)), _FARTHEST)
        arrived = np.zeros(reached.shape, dtype=bool)
        going = np.ones(reached.shape, dtype=bool)
        # The asker is never asked.
        taken = [askers]
        while going.any():
            for path in range(self._paths):
                rows = np.flatnonzero(going[path])
                others = [column[rows] for column in taken]
                picked = self._picked(told[path][:, rows], keys[rows], others)
                away = self._tables.distances(picked, keys[rows])
                picked[away >= reached[path, rows]] = NOBODY
                reached[path, rows] = away
                column = np.full(len(keys), NOBODY, dtype=np.int64)
                column[rows] = picked
                taken.append(column)
                there = (holders[:, rows] == picked).any(axis=0)
                arrived[path, rows[there]] = True
                going[path, rows] = ~there & (picked != NOBODY)
                rows = np.flatnonzero(going[path])
                answers = self._answers(column[rows], keys[rows], generator)
                told[path][:, rows] = answers
        asked = np.array(taken[1:]).reshape(-1, self._paths, len(keys))
        return Paths(asked, arrived)

    def _holders(self, askers: Places, keys: Words) -> Places:
        """The nearest to each key, the asker left out, one for each path."""
        nearest = self._tables.population.nearest(keys, self._paths + 1)
        order = (nearest == askers).argsort(axis=0, kind="stable")[: self._paths]
        holders: Places = np.take_along_axis(nearest, order, axis=0)
        return holders

    def _dealt(
        self, askers: Places, keys: Words, generator: np.random.Generator
    ) -> list[Places]:
        known = generator.permuted(self._tables.answers(askers, keys), axis=0)
        hands = []
        for path in range(self._paths):
            hand = np.full_like(known, NOBODY)
            cards = known[path :: self._paths]
            hand[: len(cards)] = cards
            hands.append(hand)
        return hands

    def _picked(self, told: Places, keys: Words, taken: list[Places]) -> Places:
        """Who is nearest of those whom nobody has asked; ``NOBODY`` if none is left."""
        away = self._tables.distances(told, keys)
        for column in taken:
            away[told == column] = _FARTHEST
        nearest = away.argmin(axis=0)[None, :]
        picked: Places = np.take_along_axis(told, nearest, axis=0)[0]
        nobody = np.take_along_axis(away, nearest, axis=0)[0] == _FARTHEST
        picked[nobody] = NOBODY
        return picked

    def _answers(
        self, places: Places, keys: Words, generator: np.random.Generator
    ) -> Places:
        told = self._tables.answers(places, keys)
        if self._gang is not None:
            lying = np.flatnonzero(self._gang.is_liar[places])
            told[:, lying] = self._gang.answers(keys[lying], self._tables.k, generator)
        return told
