"""Who takes part, under which id, and from when to when.

Owns the nodes by number: ids of 64 bits, starts and ends of their sessions. Refuses to
know what nodes know of each other. Whoever comes back is a new node here.

    people = Population.steady(100_000, generator)              # nobody comes or goes
    people = Population.renewing(100_000, 86_400.0, Sessions(), generator)
    people = Population.traced(spans, generator)                # (start_s, end_s) each
    node = people.add(node_id, starts=loop.now)                 # one more
    people.end(node, loop.now)                          # killed before its time
    people.is_alive(node, loop.now); people.alive(loop.now)     # one; all, as an array
    people.id_of[node]                                  # int; people.ids: uint64
"""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from simulations.model.arrays import Ids
from simulations.model.ids import ID_BITS

Nodes = npt.NDArray[np.int64]
Seconds = npt.NDArray[np.float64]


class SessionLaw(Protocol):
    """How long nodes stay; `simulations.model.sessions.Sessions` is one."""

    def many_whole_s(self, generator: np.random.Generator, count: int) -> Seconds:
        """Whole sessions, in seconds."""
        ...

    def many_met_s(
        self, generator: np.random.Generator, count: int
    ) -> tuple[Seconds, Seconds]:
        """Ages of sessions met at a random moment, and what is left of them."""
        ...


class Population:
    """All nodes that there are, were and will be.

    Attributes:
        ids: of each node; uint64, shape (count,).
        starts, ends: of its session in virtual seconds, the end excluded; (count,).
        id_of: the same ids as Python's integers, for work on single nodes.
    """

    def __init__(self, ids: Ids, starts: Seconds, ends: Seconds) -> None:
        """Take part under these ids, which differ, from these starts to these ends."""
        self._count = len(ids)
        self._ids, self._starts, self._ends = ids.copy(), starts.copy(), ends.copy()
        self.id_of: list[int] = ids.tolist()
        self._end_of: list[float] = ends.tolist()
        self._start_of: list[float] = starts.tolist()

    @classmethod
    def steady(cls, count: int, generator: np.random.Generator) -> "Population":
        """Nodes that were always there and stay."""
        return cls(
            distinct_ids(generator, count),
            np.full(count, -math.inf),
            np.full(count, math.inf),
        )

    @classmethod
    def renewing(
        cls,
        count: int,
        horizon_s: float,
        law: SessionLaw,
        generator: np.random.Generator,
    ) -> "Population":
        """As many nodes at any time: a newcomer for each that leaves.

        Those who are there at 0 are in the middle of sessions that began before.
        Nodes are numbered by their start; until ``horizon_s``.
        """
        ages_s, left_s = law.many_met_s(generator, count)
        starts, ends = [-ages_s], [left_s]
        last = ends[0]
        while len(last := last[last < horizon_s]):
            starts.append(last)
            last = last + law.many_whole_s(generator, len(last))
            ends.append(last)
        all_starts, all_ends = np.concatenate(starts), np.concatenate(ends)
        order = np.argsort(all_starts, kind="stable")
        ids = distinct_ids(generator, len(order))
        return cls(ids, all_starts[order], all_ends[order])

    @classmethod
    def traced(
        cls, spans: Sequence[tuple[float, float]], generator: np.random.Generator
    ) -> "Population":
        """Sessions as they were seen, each by a node of its own; sorted by start."""
        seen = np.array(sorted(spans), dtype=np.float64).reshape(-1, 2)
        return cls(distinct_ids(generator, len(seen)), seen[:, 0], seen[:, 1])

    def __len__(self) -> int:
        return self._count

    @property
    def ids(self) -> Ids:
        """The ids of all nodes; uint64, shape (count,)."""
        return self._ids[: self._count]

    @property
    def starts(self) -> Seconds:
        """When each came, in virtual seconds; shape (count,)."""
        return self._starts[: self._count]

    @property
    def ends(self) -> Seconds:
        """When each is gone, in virtual seconds; shape (count,)."""
        return self._ends[: self._count]

    def is_alive(self, node: int, now: float) -> bool:
        """Whether a node is there."""
        return self._start_of[node] <= now < self._end_of[node]

    def end_of(self, node: int) -> float:
        """When a node is gone, in virtual seconds."""
        return self._end_of[node]

    def alive(self, now: float) -> Nodes:
        """All that are there now, by number."""
        return np.flatnonzero((self.starts <= now) & (now < self.ends))

    def add(self, node_id: int, *, starts: float, ends: float = math.inf) -> int:
        """One more node; returns its number."""
        if self._count == len(self._ids):
            room = max(16, self._count // 4)
            self._ids = np.concatenate([self._ids, np.zeros(room, np.uint64)])
            self._starts = np.concatenate([self._starts, np.zeros(room)])
            self._ends = np.concatenate([self._ends, np.zeros(room)])
        node = self._count
        self._ids[node], self._starts[node], self._ends[node] = node_id, starts, ends
        self.id_of.append(node_id)
        self._start_of.append(starts)
        self._end_of.append(ends)
        self._count += 1
        return node

    def end(self, node: int, at_s: float) -> None:
        """Have a node gone at this moment, whatever was meant before."""
        self._ends[node] = self._end_of[node] = at_s


def distinct_ids(generator: np.random.Generator, count: int) -> Ids:
    """Uniform ids of 64 bits, all different, in random order."""
    ids = generator.integers(0, 1 << ID_BITS, count, dtype=np.uint64)
    while len(different := np.unique(ids)) < count:
        more = generator.integers(0, 1 << ID_BITS, count, dtype=np.uint64)
        ids = generator.permutation(np.concatenate([different, more])[:count])
    return ids
