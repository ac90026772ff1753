"""Who is there, and whom the others take to be there: changes, round by round.

    lives = Lives.drawn(10_000, 86_400.0, Sessions(), generator, away_s=0.0)
    changes = lives.step(60.0)      # all that happened until then
    lives.on; lives.seen            # arrays of bool, by number
    lives.kill(nodes, 3600.0)       # at one instant, for good

Owns sessions of nodes that come, leave without a word and perhaps come back under the
same id, and when their neighbours notice. Refuses to know what neighbours do then.
Simplification: all neighbours of a node notice its end at one moment, that of a check
by the shipped schedule. In truth each does at its own, so that some are right earlier.
"""

from typing import Final, NamedTuple

import numpy as np

from opnode.drivers.dht.config import HoldingsConfig
from simulations.backends.event.checks import JITTERS, CheckLaw
from simulations.backends.event.population import Nodes, Seconds, distinct_ids
from simulations.model.arrays import Ids
from simulations.model.sessions import Sessions

JOIN_S: Final = 15.0
"""From its start until a node is known to its neighbours: it joins within seconds, and
they look around for newcomers every 30 s."""

_COMES, _GOES, _IS_SEEN, _IS_MISSED = range(4)


class Changes(NamedTuple):
    """What one step brought; nodes by number, each at most once in a field.

    Attributes:
        came, left: those whose state differs from before the step.
        appeared, vanished: the same, as their neighbours see it.
        newcomers: of those that appeared the ones not seen for an hour, or ever.
        times, subjects: all that happened, in order, for the digest.
    """

    came: Nodes
    left: Nodes
    appeared: Nodes
    vanished: Nodes
    newcomers: Nodes
    times: Seconds
    subjects: Nodes


class Lives:
    """All nodes that there are, were and will be.

    Attributes:
        ids: of each node; uint64, shape (count,).
        on: who is there; bool, shape (count,).
        seen: whom its neighbours take to be there; bool, shape (count,).
    """

    def __init__(
        self, ids: Ids, sessions: tuple[Nodes, Seconds, Seconds], law: CheckLaw
    ) -> None:
        """Take part in these sessions.

        Args:
            ids: which differ; shape (count,).
            sessions: whose, from when to when; each of shape (sessions,), those of one
                node in order. Who started before 0 is known to all at 0.
            law: when a contact that is gone is missed.
        """
        self.ids = ids
        self.on = np.zeros(len(ids), np.bool_)
        self.seen = np.zeros(len(ids), np.bool_)
        self._law = law
        self._since = np.full(len(ids), -np.inf)
        self._missed_at = np.full(len(ids), -np.inf)
        nodes, starts, ends = sessions
        missed = self._missed(nodes, starts, ends)
        # Who is back before it is missed was never away, as others see it.
        order = np.lexsort((starts, nodes))
        follows = np.flatnonzero(nodes[order][:-1] == nodes[order][1:])
        before, after = order[follows], order[follows + 1]
        missed[before[missed[before] >= starts[after]]] = np.inf
        known = np.where(starts < 0, starts, starts + JOIN_S)
        self._times = np.concatenate([starts, ends, known, missed])
        self._nodes = np.tile(nodes, 4)
        self._kinds = np.repeat([_COMES, _GOES, _IS_SEEN, _IS_MISSED], len(nodes))
        self._at = 0
        self._sort()

    @classmethod
    def drawn(
        cls,
        count: int,
        horizon_s: float,
        law: Sessions,
        generator: np.random.Generator,
        away_s: float = 0.0,
    ) -> "Lives":
        """As many nodes at any time, on average.

        Args:
            count: of those who are there.
            horizon_s: how far sessions are drawn.
            law: of their lengths; who is there at 0 is in the middle of one.
            generator: draws everything.
            away_s: who leaves comes back after so long on average, exponential; 0:
                never, and somebody new comes at that moment.
        """
        ages, left_s = law.many_met_s(generator, count)
        nodes, starts, ends = [np.arange(count)], [-ages], [left_s]
        total = count
        if away_s:
            # So many more are away at 0 that as many come as leave.
            away = round(count * away_s / law.mean_s)
            total += away
            nodes.append(np.arange(count, total))
            starts.append(generator.exponential(away_s, away))
            ends.append(starts[1] + law.many_whole_s(generator, away))
        last_nodes, last = np.concatenate(nodes), np.concatenate(ends)
        while len(last):
            going_on = last < horizon_s
            last_nodes, last = last_nodes[going_on], last[going_on]
            if away_s:
                last = last + generator.exponential(away_s, len(last))
            else:
                last_nodes = np.arange(total, total + len(last))
                total += len(last)
            nodes.append(last_nodes)
            starts.append(last)
            last = last + law.many_whole_s(generator, len(last))
            ends.append(last)
        sessions = np.concatenate(nodes), np.concatenate(starts), np.concatenate(ends)
        # A contact that is ever so old is checked hourly, as one of ten days is.
        check = CheckLaw(horizon_s=float((sessions[2] - sessions[1]).max()))
        return cls(distinct_ids(generator, total), sessions, check)

    def step(self, until_s: float) -> Changes:
        """Let everything happen until then."""
        end = int(np.searchsorted(self._times, until_s, side="right"))
        part = slice(self._at, end)
        self._at = end
        times, nodes, kinds = self._times[part], self._nodes[part], self._kinds[part]
        on, seen = self.on.copy(), self.seen.copy()
        newcomers = self._apply(times, nodes, kinds)
        return Changes(
            np.flatnonzero(self.on & ~on),
            np.flatnonzero(on & ~self.on),
            np.flatnonzero(self.seen & ~seen),
            np.flatnonzero(seen & ~self.seen),
            newcomers,
            times,
            nodes,
        )

    def kill(self, nodes: Nodes, now: float) -> None:
        """Have nodes gone at this moment for good; the others notice by and by."""
        self.on[nodes] = False
        some = nodes[self.seen[nodes]]
        missed = self._missed(some, self._since[some], np.full(len(some), now))
        self._times = np.concatenate([self._times, missed])
        self._nodes = np.concatenate([self._nodes, some])
        self._kinds = np.concatenate([self._kinds, np.full(len(some), _IS_MISSED)])
        self._sort()
        # What would have happened to them later does not; that they are missed does.
        later = self._nodes[self._at :]
        is_killed = np.zeros(len(self.ids), np.bool_)
        is_killed[nodes] = True
        kept = ~is_killed[later] | (self._kinds[self._at :] == _IS_MISSED)
        self._times = self._times[self._at :][kept]
        self._kinds = self._kinds[self._at :][kept]
        self._nodes = later[kept]
        self._at = 0

    def _apply(self, times: Seconds, nodes: Nodes, kinds: Nodes) -> Nodes:
        """Change the states; of several changes of one node the last one stands."""
        is_turn = kinds <= _GOES
        self.on[nodes[is_turn]] = kinds[is_turn] == _COMES
        appears, vanishes = kinds == _IS_SEEN, kinds == _IS_MISSED
        fresh = nodes[appears]
        is_new = ~self.seen[fresh]
        self._since[fresh[is_new]] = times[appears][is_new]
        away_s = times[appears] - self._missed_at[fresh]
        newcomers = fresh[is_new & (away_s > HoldingsConfig().forget_s)]
        self._missed_at[nodes[vanishes]] = times[vanishes]
        views = appears | vanishes
        self.seen[nodes[views]] = appears[views]
        return np.unique(newcomers)

    def _missed(self, nodes: Nodes, since: Seconds, ends: Seconds) -> Seconds:
        # Each pair has a pace of its own; of a node's neighbours one stands for all.
        jitter = (self.ids[nodes] & np.uint64(JITTERS - 1)).astype(np.int64)
        return self._law.found_at(since, ends, jitter)

    def _sort(self) -> None:
        order = np.argsort(self._times, kind="stable")
        self._times, self._nodes = self._times[order], self._nodes[order]
        self._kinds = self._kinds[order]
