"""A mass failure on events: 10^4 to 10^5 nodes with the shipped lookup and care.

Owns the world of one run. Refuses to know how tables, lookups and holders work.

Simplifications: nobody comes or goes but for the failure. Contacts have been known for
up to an hour when it happens, neighbours for as long as the field's sessions last, two
days at most. A read ends at the first answer of a holder; nothing is verified and
nobody is repaired. Readers believe that there are as many nodes as before. What holders
do is simplified as `simulations.backends.event.copies` tells.
"""

import math
from typing import Final

import numpy as np

from simulations.backends.event.checks import CheckLaw
from simulations.backends.event.copies import CarePolicy, Copies
from simulations.backends.event.lives import Lives
from simulations.backends.event.lookups import Found, Memory, ShippedLookup
from simulations.backends.event.loop import EventLoop
from simulations.backends.event.network import Network
from simulations.backends.event.population import Nodes, Population
from simulations.backends.event.tables import EMPTY, Tables, depths_for
from simulations.backends.event.upkeep import Upkeep, UpkeepConfig
from simulations.model.durations import HOUR_S
from simulations.model.round_trips import UniformRoundTrips
from simulations.model.sessions import Sessions
from simulations.reads import Judged, Reads, summary
from simulations.run_context import Run
from simulations.scenario import Measured
from simulations.scenarios.mass_failure.question import (
    REFRESH_S,
    SETTLE_S,
    Aftermath,
    K,
    MassFailureFigures,
    Question,
    cells_of,
    figures_of,
)

_ROUND_S: Final = 60.0
_READ_S: Final = 30.0
"""All lookups of a moment are over by then: each ends after 20 s at most."""
_OLDEST_S: Final = 48 * HOUR_S
_ASKERS: Final = 200
"""Nodes that read; each has asked before, so it knows how long answers take."""


def measure(asked: Question, run: Run) -> Measured[MassFailureFigures]:
    """Settle, read, kill, read at once and after every period."""
    world = _World(asked, run)
    world.loop.run_until(SETTLE_S)
    world.read()
    before = world.read()
    failed_at = world.loop.now
    died = world.kill(int(asked.dead * asked.nodes))
    after = []
    for period in range(asked.periods + 1):
        world.loop.run_until(failed_at + period * REFRESH_S)
        run.progress(period, asked.periods, "hours")
        seen = world.look(period)
        run.row("healing", **cells_of(seen))
        after.append(seen)
    run.fold(world.loop.digest())
    figures = figures_of(
        before,
        after,
        dead=asked.dead,
        died=died,
        lost=int((world.copies.look().holders == 0).sum()),
        datagrams_per_node_s=-1.0,
    )
    return Measured(figures, world.loop.count, world.loop.now)


class _World:
    """The nodes, their tables, and the records."""

    def __init__(self, asked: Question, run: Run) -> None:
        self.loop = EventLoop(run.watch)
        self._asked = asked
        generator = self._generator = run.generator
        people = self._people = Population.steady(asked.nodes, generator)
        horizon_s = SETTLE_S + (asked.periods + 1) * REFRESH_S
        self._network = Network(self.loop, people, UniformRoundTrips(), generator)
        depths = depths_for(asked.nodes)
        self._tables = Tables(people, generator, depths=depths, k=K)
        config = UpkeepConfig(horizon_s=horizon_s)
        self._upkeep = Upkeep(self.loop, people, self._tables, config, generator)
        self._upkeep.begin()
        keys = generator.integers(0, 1 << 64, asked.records, dtype=np.uint64)
        self._keys: list[int] = keys.tolist()
        least = max(K, round(asked.nodes * (1 - asked.dead)))
        lives = self._lives(people, horizon_s)
        self.copies = Copies(lives, keys, CarePolicy(k=K), least_nodes=least)
        self.copies.put()
        # They live on, as somebody has to read.
        most = max(1, round(asked.nodes * (1 - asked.dead) / 2))
        drawn = generator.permutation(asked.nodes)[: min(_ASKERS, most)]
        self._readers = {node: Memory(asked.nodes) for node in drawn.tolist()}
        self.loop.call_in(_ROUND_S, self._care, 0)

    def read(self) -> Reads:
        """Read from nodes that are there, the records in turn, all at one moment."""
        judged: list[Judged] = []

        def done(found: Found) -> None:
            is_found = found.first_s < math.inf
            took_s = found.first_s if is_found else found.took_s
            judged.append(Judged(took_s, is_found, older=False, forged=False))

        readers = list(self._readers.items())
        for number in range(self._asked.gets):
            asker, memory = readers[number % len(readers)]
            record = number % len(self._keys)
            lookup = ShippedLookup(
                self._network,
                self._tables,
                asker,
                self._keys[record],
                done,
                memory,
            )
            lookup.holders = frozenset(self.copies.holders_of(record).tolist())
            lookup.ends_at_first = True
            lookup.start()
        self.loop.run_until(self.loop.now + _READ_S)
        return summary(judged)

    def kill(self, count: int) -> int:
        """Have so many nodes die now, none of the readers; returns how many did."""
        order = self._generator.permutation(self._asked.nodes)
        others = order[~np.isin(order, list(self._readers))]
        dead: Nodes = others[:count]
        self._upkeep.kill(dead)
        self.copies.kill(dead)
        return len(dead)

    def look(self, period: int) -> Aftermath:
        """Count, then read."""
        seen = self.copies.look()
        contacts = self._tables.contacts[self._tables.owner_of != EMPTY]
        owners = self._tables.owner_of[self._tables.owner_of != EMPTY]
        is_living = self._people.ends > self.loop.now
        known = contacts[is_living[owners]]
        known = known[known != EMPTY]
        return Aftermath(
            periods=period,
            stale_rate=float(1 - is_living[known].mean()),
            holders_min=int(seen.holders.min()),
            holders_mean=float(seen.holders.mean()),
            closest_rate=float(seen.close.mean() / K),
            first=self.read(),
        )

    def _care(self, subject: int, _: object) -> None:
        times, subjects = self.copies.step(self.loop.now)
        self.loop.note(times, subjects)
        self.loop.call_in(_ROUND_S, self._care, subject)

    def _lives(self, people: Population, horizon_s: float) -> Lives:
        """The same nodes, as the neighbours of records see them."""
        ages, _ = Sessions().many_met_s(self._generator, len(people))
        starts = -np.minimum(ages, _OLDEST_S)
        ends = np.full(len(people), horizon_s)
        law = CheckLaw(horizon_s=2 * (_OLDEST_S + horizon_s))
        lives = Lives(people.ids, (np.arange(len(people)), starts, ends), law)
        lives.step(0.0)
        return lives
