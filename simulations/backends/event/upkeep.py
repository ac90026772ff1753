"""How routing tables keep up with nodes that come and go.

    config = UpkeepConfig(horizon_s=86_400.0)
    upkeep = Upkeep(loop, people, tables, config, generator)
    upkeep.begin()                  # tables for all who are there; then by itself
    loop.run_until(86_400.0)
    upkeep.stale_shares()           # of full buckets, and of all others
    upkeep.kill(nodes)              # a mass failure: gone now, found out by checks
    upkeep.living.closest(key, 20)  # the true closest, as of the last round

Owns joins, checks, refreshes and replacements, by the shipped policy: whoever is in
stays, newcomers fill free places, a contact is checked the more seldom the longer it is
known, and is dropped when it is silent twice. Refuses to know how messages travel: a
lookup that a table needs finds nodes of its range that are there, any of them alike.
What is due within one round is worked out in arrays, each event with its own time.
"""

import enum
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from opnode.drivers.dht.config import DhtConfig
from opnode.protocols.routing import RoutingConfig
from simulations.backends.event.checks import MEAN_PACE, CheckLaw
from simulations.backends.event.loop import EventLoop
from simulations.backends.event.population import Nodes, Population, Seconds
from simulations.backends.event.tables import EMPTY, Living, Seats, Tables
from simulations.model.durations import HOUR_S

_NEIGHBOURS: Final = 24
"""On each side: whoever has room for a newcomer near itself is among them, as buckets
of such ids hold fewer than k."""
_CHUNK: Final = 4096
"""Tables filled or looked at in one go: 100 MB."""


class Prefer(enum.StrEnum):
    """Who has the place when a bucket is full and somebody new is heard."""

    OLD = "old"
    """Whoever is in, as long as it answers (Kademlia §2.2): what nodes ship with."""

    NEW = "new"
    """Whoever was heard last; for comparison."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpkeepConfig:
    """How tables are kept.

    Attributes:
        horizon_s: until then; what is due later is not even noted.
        round_s: what is due within so long is worked out at once. A place that
            becomes free is empty until the end of its round.
        refresh_s: how often a node looks around in each bucket.
        check_s: pause between two checks of a contact; None for the shipped ones,
            which grow with its age.
        prefer: who stays.
    """

    horizon_s: float
    round_s: float = 30.0
    refresh_s: float = DhtConfig().refresh_s
    check_s: float | None = None
    prefer: Prefer = Prefer.OLD


class StaleShares(NamedTuple):
    """Shares of the contacts that are gone.

    Attributes:
        full: of the contacts in buckets that are full.
        other: in those that are not.
        filled: contacts in a bucket whose range has at least 2 k nodes, on average.
        by_depth: for each bucket, of whatever filling; shape (depths,).
    """

    full: float
    other: float
    filled: float
    by_depth: list[float]


class Counts(NamedTuple):
    """What happened so far.

    Attributes:
        came, left: nodes.
        dropped: contacts found dead.
        entered: contacts that got a place, those of first tables too.
        refreshes: rounds in which a node looked around.
    """

    came: int
    left: int
    dropped: int
    entered: int
    refreshes: int


class Upkeep:
    """Keeps the tables of a population.

    Attributes:
        living: who is there, as of the last round.
        counts: what happened so far.
    """

    def __init__(
        self,
        loop: EventLoop,
        people: Population,
        tables: Tables,
        config: UpkeepConfig,
        generator: np.random.Generator,
    ) -> None:
        self.living = Living(people, loop.now)
        self._loop = loop
        self._people = people
        self._tables = tables
        self._config = config
        self._generator = generator
        # Those who are there at first have been known for up to one period.
        known_s = config.horizon_s + config.refresh_s
        self._law = CheckLaw(horizon_s=known_s, fixed_s=config.check_s)
        # Contacts that will be dropped, by round: where, who, and when (a float32) are
        # rows. Small copies, since a part of an array would keep all of it.
        self._due: dict[int, list[npt.NDArray[np.int32]]] = {}
        self._refreshes: dict[int, list[Nodes]] = {}
        # When each node last looked around; by its number.
        self._looked_at = np.zeros(len(people))
        self._came = self._left = self._dropped = self._entered = self._refreshed = 0

    @property
    def counts(self) -> Counts:
        """What happened so far."""
        return Counts(
            self._came, self._left, self._dropped, self._entered, self._refreshed
        )

    def begin(self) -> None:
        """Give all who are there their tables, and keep them from now on."""
        now = self._loop.now
        self.living = Living(self._people, now)
        nodes = np.sort(self.living.nodes)
        for start in range(0, len(nodes), _CHUNK):
            some = nodes[start : start + _CHUNK]
            self._tables.seat(some)
            places, contacts = self._tables.fill(some, now, self.living)
            # Met at any time within the last period: checks do not fall together.
            met = now - self._config.refresh_s * self._generator.random(len(places))
            self._tables.since.reshape(-1)[places] = met
            self._entered += len(places)
            self._loop.note(met, contacts)
            self._expect(places, contacts, met)
        # They looked around at any time within the last period.
        phases = self._generator.random(len(nodes))
        self._know(len(self._people))
        self._looked_at[nodes] = now - phases * self._config.refresh_s
        self._plan_refreshes(nodes)
        self._loop.call_in(self._config.round_s, self._round, 0)

    def kill(self, nodes: Nodes) -> None:
        """Have nodes gone at this moment; their contacts find out by and by."""
        now = self._loop.now
        for node in nodes.tolist():
            self._people.end(node, now)
        is_killed = np.zeros(len(self._people) + 1, np.bool_)
        is_killed[nodes] = True
        seats, size = len(self._tables.owner_of), self._tables.contacts[0].size
        for start in range(0, seats, _CHUNK):
            part = self._tables.contacts[start : start + _CHUNK].reshape(-1)
            at = np.flatnonzero(is_killed[part])
            since = self._tables.since[start : start + _CHUNK].reshape(-1)[at]
            places = at + start * size
            self._expect(places, part[at].astype(np.int64), since.astype(np.float64))

    def stale_shares(self) -> StaleShares:
        """Look at all tables as they are now."""
        ends, now = self._people.ends, self._loop.now
        tables, k = self._tables, self._tables.k
        seats = np.flatnonzero(tables.owner_of != EMPTY)
        gone = np.zeros((2, tables.depths), np.int64)
        held = np.zeros((2, tables.depths), np.int64)
        for start in range(0, len(seats), _CHUNK):
            contacts = tables.contacts[seats[start : start + _CHUNK]]
            is_held = contacts != EMPTY
            count = is_held.sum(axis=2)
            dead = (is_held & (ends[contacts] <= now)).sum(axis=2)
            is_full = count == k
            for kind, chosen in enumerate((is_full, ~is_full)):
                gone[kind] += np.where(chosen, dead, 0).sum(axis=0)
                held[kind] += np.where(chosen, count, 0).sum(axis=0)
        full, other = gone.sum(axis=1) / np.maximum(held.sum(axis=1), 1)
        depth = np.arange(tables.depths)
        is_deep_enough = len(seats) / 2.0 ** (depth + 1) >= 2 * k
        filled = held.sum(axis=0)[is_deep_enough] / max(1, len(seats))
        return StaleShares(
            float(full),
            float(other),
            float(filled.mean()) if len(filled) else 0.0,
            (gone.sum(axis=0) / np.maximum(held.sum(axis=0), 1)).tolist(),
        )

    def checks_per_node_s(self) -> float:
        """How often a node checks one of its contacts, by the ages that they have now.

        Without what lookups and others' questions save; those cost nothing extra.
        """
        policy, tables, now = RoutingConfig(), self._tables, self._loop.now
        seats = np.flatnonzero(tables.owner_of != EMPTY)
        rate = 0.0
        for start in range(0, len(seats), _CHUNK):
            some = seats[start : start + _CHUNK]
            is_held = tables.contacts[some] != EMPTY
            if self._config.check_s is not None:
                rate += float(is_held.sum()) / self._config.check_s
                continue
            age_s = np.maximum(now - tables.since[some][is_held], 1.0)
            pause_s = policy.check_s * (age_s / HOUR_S) ** policy.check_power
            pause_s = pause_s.clip(policy.check_min_s, policy.check_max_s)
            rate += float((1 / pause_s).sum()) / MEAN_PACE
        return rate / max(1, len(seats))

    def _round(self, subject: int, _: object) -> None:
        """Work out what happened since the round before."""
        now = self._loop.now
        number = int(self._number(now))
        come, gone = self._changes(now)
        self.living.change(self._people, gone, come)
        self._tables.unseat(gone)
        self._drop(number, now)
        self._know(len(self._people))
        if len(come):
            self._join(come, now)
        self._refresh(number, now)
        if now < self._config.horizon_s:
            self._loop.call_in(self._config.round_s, self._round, subject)

    def _changes(self, now: float) -> tuple[Nodes, Nodes]:
        """Who came and who left; nobody saw those who did both."""
        starts, ends = self._people.starts, self._people.ends
        # A table is what tells who was there at the last round.
        has_seat = self._tables.are_seated(len(starts))
        come = np.flatnonzero((starts <= now) & (ends > now) & ~has_seat)
        gone = np.flatnonzero((ends <= now) & has_seat)
        self._came += len(come)
        self._left += len(gone)
        times = np.concatenate([starts[come], ends[gone]])
        order = np.argsort(times, kind="stable")
        self._loop.note(times[order], np.concatenate([come, gone])[order])
        return come, gone

    def _join(self, come: Nodes, now: float) -> None:
        """Newcomers look around everywhere, and their neighbours hear of them."""
        self._tables.seat(come)
        self._note(*self._tables.fill(come, now, self.living))
        self._looked_at[come] = now
        self._plan_refreshes(come)
        order = self.living
        at = np.searchsorted(order.ids, self._people.ids[come])
        near = at[:, None] + np.arange(-_NEIGHBOURS, _NEIGHBOURS + 1)
        near = near.clip(0, len(order.nodes) - 1)
        hosts = order.nodes[near].ravel()
        guests = np.repeat(come, near.shape[1])
        self._note(*self._tables.offer(hosts, guests, now))

    def _drop(self, number: int, now: float) -> None:
        """Drop who was found out; whoever waited for the place gets it."""
        due = self._due.pop(number, None)
        if due is None:
            return
        tables = self._tables
        rows = np.concatenate(due, axis=1)
        places, contacts, times = rows[0].astype(np.int64), rows[1], rows[2]
        times = times.view(np.float32)
        flat = tables.contacts.reshape(-1)
        places, first = np.unique(places, return_index=True)
        contacts, times = contacts[first], times[first]
        owners = tables.owner_of[places // (tables.depths * tables.k)]
        # The place may be another's by now, and so may the table.
        is_there = (flat[places] == contacts) & (owners != EMPTY)
        places, owners, times = places[is_there], owners[is_there], times[is_there]
        flat[places] = EMPTY
        self._dropped += len(places)
        order = np.argsort(times, kind="stable")
        self._loop.note(times[order].astype(np.float64), owners[order])
        buckets, first = np.unique(places // tables.k, return_index=True)
        self._note(
            *tables.fill_buckets(
                buckets // tables.depths,
                buckets % tables.depths,
                now,
                self.living,
                heard_by=self._looked_at[owners[first]],
            )
        )

    def _refresh(self, number: int, now: float) -> None:
        """Nodes whose time has come look around in all of their buckets."""
        due = self._refreshes.pop(number, None)
        if due is None:
            return
        nodes = np.concatenate(due)
        seats = self._tables.seat_of[nodes]
        is_there = (seats != EMPTY) & (self._people.ends[nodes] > now)
        nodes, seats = nodes[is_there], seats[is_there]
        self._refreshed += len(nodes)
        self._loop.note(np.full(len(nodes), now), nodes)
        if self._config.prefer is Prefer.NEW:
            # As many as have room are heard of, and each takes a place.
            rows = self._tables.contacts[seats]
            rows[(rows != EMPTY).all(axis=2)] = EMPTY
            self._tables.contacts[seats] = rows
        has_room = (self._tables.contacts[seats] == EMPTY).any(axis=2)
        row, depths = np.nonzero(has_room)
        filled = self._tables.fill_buckets(seats[row], depths, now, self.living)
        self._note(*filled)
        self._looked_at[nodes] = now
        self._plan_refreshes(nodes)

    def _note(self, places: Seats, contacts: Nodes) -> None:
        """Contacts got their places just now."""
        times = np.full(len(places), self._loop.now)
        self._entered += len(places)
        self._loop.note(times, contacts)
        self._expect(places, contacts, times)

    def _expect(self, places: Seats, contacts: Nodes, since: Seconds) -> None:
        """Plan when these contacts are dropped, if they are within the horizon."""
        tables, people = self._tables, self._people
        ends = people.ends[contacts]
        leaving = np.flatnonzero(ends < self._config.horizon_s)
        places, contacts = places[leaving], contacts[leaving]
        owners = tables.owner_of[places // (tables.depths * tables.k)]
        pairs = people.ids[owners] ^ people.ids[contacts]
        jitter = (pairs & np.uint64(255)).astype(np.int64)
        times = self._law.found_at(since[leaving], ends[leaving], jitter)
        # An owner that leaves before needs not be told.
        until = np.minimum(people.ends[owners], self._config.horizon_s)
        is_due = times < until
        rounds = self._number(times[is_due])
        order = np.argsort(rounds, kind="stable")
        rows = np.empty((3, len(order)), np.int32)
        rows[0] = places[is_due][order]
        rows[1] = contacts[is_due][order]
        rows[2] = times[is_due][order].astype(np.float32).view(np.int32)
        numbers, first = np.unique(rounds[order], return_index=True)
        bounds = [*first.tolist(), len(order)]
        for index, number in enumerate(numbers.tolist()):
            part = rows[:, bounds[index] : bounds[index + 1]].copy()
            self._due.setdefault(number, []).append(part)

    def _plan_refreshes(self, nodes: Nodes) -> None:
        if not len(nodes):
            return
        rounds = self._number(self._looked_at[nodes] + self._config.refresh_s)
        order = np.argsort(rounds, kind="stable")
        numbers, first = np.unique(rounds[order], return_index=True)
        parts = np.split(nodes[order], first[1:])
        for number, part in zip(numbers.tolist(), parts, strict=True):
            self._refreshes.setdefault(number, []).append(part)

    def _number(self, at_s: Seconds | float) -> npt.NDArray[np.int64]:
        """The round in which something is worked out that is due at a moment."""
        ended = np.ceil(np.asarray(at_s) / self._config.round_s - 1e-6)
        later: npt.NDArray[np.int64] = ended.astype(np.int64)
        return later

    def _know(self, count: int) -> None:
        missing = count - len(self._looked_at)
        if missing > 0:
            more = np.zeros(missing + 1024)
            self._looked_at = np.concatenate([self._looked_at, more])
