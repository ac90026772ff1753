"""Which nodes hold which records, and how holders care for them.

    copies = Copies(lives, keys, CarePolicy(), least_nodes=10_000)
    copies.put()                    # by the owners, who then are gone
    copies.step(60.0)               # all that holders did until then
    copies.look()                   # who holds what, and what readers find

Owns the shipped policy of holders (`drivers.dht.holdings`, dht §4.12): the two nearest
holders give a newcomer what it should hold, and a bag that nobody put for an hour is
put again, by the nearest holder first. Refuses to know lookups and datagrams.

Simplifications: whatever is put at a node that is there arrives, and its quota takes
it. Newcomers have their records, and puts are done, by the end of the round. A holder
knows its whole neighbourhood, but for who just came and who is dead and not missed yet
(`Lives`), where in the field three of five nodes know all their 20 closest. A put goes
to the k closest alone, not to the other members of the region (26 nodes, not 20).
Nobody repairs by reading, and nobody gives anything when it leaves.
"""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from opnode.drivers.dht.config import HoldingsConfig
from simulations.backends.event.lives import Lives
from simulations.backends.event.population import Nodes
from simulations.model.arrays import Ids, Mask
from simulations.model.ids import nearest_places

_SHIPPED: Final = HoldingsConfig()
_SPAN_SHARE: Final = 1.6
_SPAN_MORE: Final = 16
"""Candidates for one record: so many times k, and these more, are there at any time."""
_JITTER_SHIFT, _JITTER_MASK = np.uint64(3), np.uint64(0xFF)
_PHASE_SHIFT, _PHASE_MASK = np.uint64(11), np.uint64(0x3FF)

Entries = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CarePolicy:
    """What holders do.

    Attributes:
        k: nodes that a record is put at.
        gives: newcomers are given records.
        puts_again: records that nobody put are put again.
        reput_s, givers, patience, walk_s: see `HoldingsConfig`.
    """

    k: int = 20
    gives: bool = True
    puts_again: bool = True
    reput_s: float = _SHIPPED.reput_s
    givers: int = _SHIPPED.givers
    patience: int = _SHIPPED.patience
    walk_s: float = _SHIPPED.walk_s


class Work(NamedTuple):
    """What holders did so far.

    Attributes:
        given: records that newcomers took.
        puts: bags that were put again.
        stores: requests that these took, those to the dead too.
    """

    given: int
    puts: int
    stores: int


class Look(NamedTuple):
    """All records at one moment; arrays of shape (records,).

    Attributes:
        holders: nodes that are there and hold it.
        close: of the k closest that are there those that hold it.
        first: of the k that it was put at first, those among the k closest now.
    """

    holders: Nodes
    close: Nodes
    first: Nodes


class Copies:
    """The copies of all records; one row for each record, nearest candidates first."""

    def __init__(
        self, lives: Lives, keys: Ids, policy: CarePolicy, *, least_nodes: int
    ) -> None:
        """Nobody holds anything yet.

        Args:
            lives: the nodes.
            keys: of the records; uint64.
            policy: what holders do.
            least_nodes: so many are there, on average, when fewest are.
        """
        self._lives = lives
        self._policy = policy
        share = len(lives.ids) / least_nodes
        span = math.ceil(share * (_SPAN_SHARE * policy.k + _SPAN_MORE))
        self._nodes = _nearest(lives.ids, keys, min(span, len(lives.ids)))
        apart = lives.ids[self._nodes] ^ keys[:, None]
        jitter = ((apart >> _JITTER_SHIFT) & _JITTER_MASK) / 256.0
        self._jitter = jitter.astype(np.float32)
        phase = ((apart >> _PHASE_SHIFT) & _PHASE_MASK) / 1024.0 * policy.walk_s
        self._phase = phase.astype(np.float32)
        self._holds = np.zeros(self._nodes.shape, np.bool_)
        self._first = self._holds.copy()
        self._put_at = np.zeros(self._nodes.shape, np.float32)
        self._put_by_us_at = self._put_at.copy()
        self._on = lives.on[self._nodes]
        self._seen = lives.seen[self._nodes]
        self._rank = _ranks(self._seen)
        # Where each node stands in the rows, one after the other.
        flat = self._nodes.ravel()
        self._places = np.argsort(flat, kind="stable")
        numbers = np.arange(len(lives.ids) + 1)
        self._bounds = np.searchsorted(flat[self._places], numbers)
        self._now = 0.0
        self._given = self._puts = self._stores = 0

    @property
    def work(self) -> Work:
        """What holders did so far."""
        return Work(self._given, self._puts, self._stores)

    def put(self) -> None:
        """Have the owners put every record at the k closest that are there."""
        self._first = self._on & (_ranks(self._on) < self._policy.k)
        self._holds = self._first.copy()
        self._put_at[:] = self._put_by_us_at[:] = self._now

    def step(self, until_s: float) -> tuple[npt.NDArray[np.float64], Nodes]:
        """Let nodes come and go, and holders care; returns what happened, to whom."""
        changes = self._lives.step(until_s)
        before_s, self._now = self._now, until_s
        self._on.reshape(-1)[self._entries(changes.came)] = True
        self._on.reshape(-1)[self._entries(changes.left)] = False
        new = self._entries(changes.newcomers)
        cared = self._cared_for(new) if self._policy.gives else new[:0]
        appeared, vanished = map(self._entries, (changes.appeared, changes.vanished))
        self._seen.reshape(-1)[appeared] = True
        self._seen.reshape(-1)[vanished] = False
        self._rank_again(np.concatenate([appeared, vanished]))
        times, subjects = [changes.times], [changes.subjects]
        for entries in (self._give(cared), self._put_again(before_s)):
            times.append(np.full(len(entries), until_s))
            subjects.append(self._nodes.reshape(-1)[entries].astype(np.int64))
        return np.concatenate(times), np.concatenate(subjects)

    def kill(self, nodes: Nodes) -> None:
        """Have nodes gone at this moment for good."""
        self._lives.kill(nodes, self._now)
        self._on.reshape(-1)[self._entries(nodes)] = False

    def holders_of(self, record: int) -> Nodes:
        """Who is there and holds a record, nearest first."""
        is_held = self._on[record] & self._holds[record]
        holders: Nodes = self._nodes[record, is_held].astype(np.int64)
        return holders

    def look(self) -> Look:
        """Count, as of the last step."""
        close = self._on & (_ranks(self._on) < self._policy.k)
        return Look(
            (self._on & self._holds).sum(axis=1),
            (close & self._holds).sum(axis=1),
            (close & self._first).sum(axis=1),
        )

    def _entries(self, nodes: Nodes) -> Entries:
        """Where these nodes stand, in all rows; flat."""
        begins, ends = self._bounds[nodes], self._bounds[nodes + 1]
        counts = ends - begins
        offsets = np.repeat(begins - np.cumsum(counts) + counts, counts)
        found: Entries = self._places[offsets + np.arange(int(counts.sum()))]
        return found

    def _rank_again(self, entries: Entries) -> None:
        rows = np.unique(entries // self._nodes.shape[1])
        self._rank[rows] = _ranks(self._seen[rows])

    def _cared_for(self, entries: Entries) -> Entries:
        """Of these the ones in whose row one of the nearest could give the record."""
        rows, at = np.unique(entries // self._nodes.shape[1], return_inverse=True)
        is_near = self._rank[rows] < self._policy.givers
        can = (self._on[rows] & self._holds[rows] & is_near).any(axis=1)
        found: Entries = entries[can[at]]
        return found

    def _give(self, entries: Entries) -> Entries:
        """Give newcomers what they are near enough for."""
        takes = self._rank.reshape(-1)[entries] < self._policy.k
        takes &= self._on.reshape(-1)[entries] & ~self._holds.reshape(-1)[entries]
        taken = entries[takes]
        self._hold(taken)
        self._given += len(taken)
        return taken

    def _hold(self, entries: Entries) -> None:
        self._holds.reshape(-1)[entries] = True
        self._put_at.reshape(-1)[entries] = self._now
        self._put_by_us_at.reshape(-1)[entries] = self._now

    def _put_again(self, before_s: float) -> Entries:
        """Have those whose turn it is put their bags at the k closest as they know."""
        if not self._policy.puts_again:
            return np.zeros(0, np.int64)
        due = self._due(before_s)
        k, span = self._policy.k, self._nodes.shape[1]
        rows = np.unique(due // span)
        asked = self._seen[rows] & (self._rank[rows] < k)
        per_row = asked.sum(axis=1)[np.searchsorted(rows, due // span)]
        # Whoever is among them itself asks one less.
        is_close = self._rank.reshape(-1)[due] < k
        self._puts += len(due)
        self._stores += int(per_row.sum() - is_close.sum())
        row, column = np.nonzero(asked & self._on[rows])
        takers = rows[row] * span + column
        self._hold(takers[~self._holds.reshape(-1)[takers]])
        self._put_at.reshape(-1)[takers] = self._now
        self._put_at.reshape(-1)[due] = self._put_by_us_at.reshape(-1)[due] = self._now
        return due

    def _due(self, before_s: float) -> Entries:
        """Holders whose walk passes a bag in this round that was long not put."""
        policy, now = self._policy, self._now
        holding = np.flatnonzero(self._on & self._holds)
        phase = self._phase.reshape(-1)[holding]
        walks = np.floor((now - phase) / policy.walk_s)
        holding = holding[walks > np.floor((before_s - phase) / policy.walk_s)]
        rank = np.minimum(self._rank.reshape(-1)[holding], policy.k)
        jitter = self._jitter.reshape(-1)[holding]
        pause_s = policy.reput_s * (1 + rank / policy.k / 2 + jitter / 4)
        quiet_s = now - self._put_at.reshape(-1)[holding]
        ours_s = now - self._put_by_us_at.reshape(-1)[holding]
        is_due = (quiet_s >= pause_s) | (ours_s >= policy.patience * pause_s)
        found: Entries = holding[is_due]
        return found


def _nearest(ids: Ids, keys: Ids, count: int) -> npt.NDArray[np.int32]:
    """The nodes nearest to each key, nearest first; int32, shape (keys, count)."""
    order = np.argsort(ids)
    return order[nearest_places(ids[order], keys, count)].astype(np.int32)


def _ranks(counted: Mask) -> npt.NDArray[np.int16]:
    """How many that count are nearer, for every place of every row."""
    ranks: npt.NDArray[np.int16] = np.cumsum(counted, axis=1, dtype=np.int16) - counted
    return ranks
