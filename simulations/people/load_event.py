"""The load of every server, message by message.

Owns the idle life of users (turns of keep-alives, registrations, renewals), their
calls, and the upkeep of servers' tables, as events that each add their bytes where they
are spent. Refuses to know failures: `restart` and `rolling` have those.

Simplified: nobody comes or goes, nothing is lost; what has no simple rule (searches for
gateways and the like) goes to servers met by chance, once a keep-alive.
"""

from typing import Final, NamedTuple

import numpy as np

from opnode.node.presence.publishing import PRESENCE_HOLDERS
from simulations.backends.event.loop import EventLoop
from simulations.model.durations import NAT_TIMERS_S
from simulations.model.ids import ID_BITS, nearest_places
from simulations.people.costs import Costs
from simulations.people.demand import REFRESH_S, delegated_lookups_per_s
from simulations.people.keeping import (
    interval_s,
    keeping,
    presence_period_s,
)
from simulations.people.load_vector import Load, Town
from simulations.people.places import NOBODY, assign
from simulations.people.routes import Routes
from simulations.run_context import Run

_TABLES: Final = 30
_ASKED_AT_ONCE: Final = 2


class _Habit(NamedTuple):
    """What a user does behind one kind of NAT: seconds, and turns to a registration."""

    interval_s: float
    turns: int


class LoadEvents:
    """A window of everybody's life.

    Args:
        town: who there is.
        costs: of single messages.
        calls_per_s: of one user.
        cap: registrations that a server takes.
        run: draws everything, and may watch.
    """

    def __init__(
        self,
        town: Town,
        costs: Costs,
        calls_per_s: float,
        cap: int,
        run: Run,
    ) -> None:
        rng, generator = run.rng, run.generator
        self.loop = EventLoop(run.watch)
        self._costs = costs
        self._calls_per_s = calls_per_s
        self._rng = rng
        self._servers: list[int] = town.servers.tolist()
        self._place = {one: place for place, one in enumerate(self._servers)}
        self._users: list[int] = town.users.tolist()
        self._routes = Routes(self._servers, rng)
        caps = np.full(len(self._servers), cap, dtype=np.int64)
        self._assignment = assign(town.servers, town.users, caps, generator)
        held = self._assignment.held.tolist()
        self._held = [[one for one in row if one != NOBODY] for row in held]
        holders = min(PRESENCE_HOLDERS, len(self._servers))
        near = nearest_places(town.servers, town.users, holders)
        self._holders: list[list[int]] = near.tolist()
        self._turns = [rng.randrange(1 << 20) for _ in self._users]
        self._habits = [_habit(timer) for timer in NAT_TIMERS_S]
        self._bytes = [0.0] * len(self._servers)
        self._user_bytes = 0.0
        self._introductions = 0

    def run(self, window_s: float) -> Load:
        """Let so many seconds pass."""
        loop, rng = self.loop, self._rng
        for user in range(len(self._users)):
            pause_s = self._pause_s(user)
            loop.call_at(rng.random() * pause_s, self._turn, user)
            loop.call_at(rng.random() * presence_period_s(), self._renew, user)
            loop.call_at(self._look_pause_s(), self._look, user)
            loop.call_at(self._call_pause_s(), self._call, user)
        sizes = [self._routes.table_size(one) for one in self._sample()]
        contacts = sum(one.contacts for one in sizes) / len(sizes)
        self._check_s = 1.0 / max(contacts * self._costs.check_per_contact_per_s, 1e-9)
        self._refresh_s = REFRESH_S * len(sizes) / sum(one.buckets for one in sizes)
        for server in range(len(self._servers)):
            loop.call_at(rng.random() * self._check_s, self._check, server)
            loop.call_at(rng.random() * self._refresh_s, self._refresh, server)
        loop.run_until(window_s)
        return Load(
            server_bytes_per_s=np.asarray(self._bytes) / window_s,
            user_bytes_per_s=self._user_bytes / window_s / len(self._users),
            registrations=self._assignment.registrations,
            refused=self._assignment.refused,
            introductions=self._introductions,
        )

    def _sample(self) -> list[int]:
        return self._rng.choices(self._servers, k=_TABLES)

    def _pause_s(self, user: int) -> float:
        habit = self._habits[user % len(self._habits)]
        return habit.interval_s / max(len(self._held[user]), 1)

    def _call_pause_s(self) -> float:
        return self._rng.expovariate(self._calls_per_s) if self._calls_per_s else 1e18

    def _look_pause_s(self) -> float:
        return self._rng.expovariate(delegated_lookups_per_s(self._costs) or 1e-18)

    def _pay(self, server: int, size: float) -> None:
        self._bytes[server] += size
        self._user_bytes += size

    def _turn(self, user: int, _: object) -> None:
        """Write to the introducer whose turn it is, a PING or now and then REGISTER."""
        held, pause_s = self._held[user], self._pause_s(user)
        turn = self._turns[user] = self._turns[user] + 1
        rest = self._costs.rest_bytes_per_s * pause_s
        self._pay(self._rng.randrange(len(self._servers)), rest)
        if held:
            habit = self._habits[user % len(self._habits)]
            is_renewal = turn // len(held) % habit.turns == 0
            kind = self._costs.register if is_renewal else self._costs.ping
            self._pay(held[turn % len(held)], kind.wire())
        self.loop.call_in(pause_s, self._turn, user)

    def _renew(self, user: int, _: object) -> None:
        for server in self._holders[user]:
            self._pay(server, self._costs.store.wire())
        self.loop.call_in(presence_period_s(), self._renew, user)

    def _look(self, user: int, _: object) -> None:
        """A server looks up for the user who is nearest to its presence."""
        size = self._costs.find_node.wire()
        asker = self._rng.randrange(len(self._servers))
        for one in self._routes.lookup(self._users[user]).nodes:
            self._bytes[asker] += size
            self._bytes[self._place[one]] += size
        self.loop.call_in(self._look_pause_s(), self._look, user)

    def _call(self, user: int, _: object) -> None:
        callee = self._rng.randrange(len(self._users))
        size = self._costs.find_value.wire()
        for one in self._routes.lookup(self._users[callee]).nodes:
            self._pay(self._place[one], size)
        held = self._held[callee]
        for server in self._rng.sample(held, min(_ASKED_AT_ONCE, len(held))):
            if self._rng.random() * _ASKED_AT_ONCE < self._costs.introductions_per_call:
                self._introductions += 1
                self._pay(server, self._costs.introduction_bytes)
        self.loop.call_in(self._call_pause_s(), self._call, user)

    def _check(self, server: int, _: object) -> None:
        size = self._costs.ping.wire()
        self._bytes[server] += size
        self._bytes[self._rng.randrange(len(self._servers))] += size
        self.loop.call_in(self._check_s, self._check, server)

    def _refresh(self, server: int, _: object) -> None:
        size = self._costs.find_node.wire()
        for one in self._routes.lookup(self._rng.getrandbits(ID_BITS)).nodes:
            self._bytes[server] += size
            self._bytes[self._place[one]] += size
        self.loop.call_in(self._refresh_s, self._refresh, server)


def _habit(timer_s: float) -> _Habit:
    interval = interval_s(timer_s)
    rates = keeping(interval)
    return _Habit(interval, round(1.0 / (rates.registers * interval)))
