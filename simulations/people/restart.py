"""Servers die and everybody restarts: users and servers as events.

Owns what a user does from its start until it is published, and how servers admit it:
each has the shipped `IntroducerDesk`, and the shipped limit on requests. Refuses to
know how load, deaths and shares are judged: that is the scenario's.

Simplified. A start is four steps, whose requests (as many as were measured on the
shipped code, `starts`) go to servers drawn uniformly, stores and registrations to the
nearest that live: join, peer file and look around, register, publish. What a server
does not admit is asked once more, registrations three times; a step with less than a
quarter of its answers failed, and the user pauses and tries again. Dead servers are
known as such to whoever starts after the instant: a lookup names only nodes that
answered. The limits of one address and of one subnet are left out: users live apart.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from opnode.core.addresses import Endpoint
from opnode.core.errors import IntroductionRefused
from opnode.node.presence.introducers import INTRODUCERS, MAX_ASKED
from opnode.node.presence.publishing import PRESENCE_HOLDERS
from opnode.protocols.introductions.introducer import IntroducerDesk
from simulations.backends.event.loop import EventLoop
from simulations.checkers.bounds import BoundChecker
from simulations.model.ids import draw_ids, nearest_places
from simulations.people.crowd_rules import ROUND_TRIP_S, Rules, repeat_s, steady_s
from simulations.people.keeping import INTERVAL_S
from simulations.people.starts import REGISTER_UNITS, StartCosts
from simulations.run_context import Run

RESTART_WITHIN_S: Final = 30.0
_DOWN_S: Final = 1.0
_REGISTERED_S: Final = 600.0
_TICK_S: Final = 0.1
_NEAR: Final = 20
_TRIPS: Final = 4
"""Round trips one after the other in a lookup."""
_STEPS: Final = (0.45, 0.3, 0.25)
"""Of a start's requests, stores apart: joining; peer file; looking around."""
_LEAST_ANSWERS: Final = 0.25
_BUSIEST_S: Final = 1.0
_SEALED_BYTES: Final = 1000
_TRIES: Final = 4
_AT_ONCE: Final = 2
_STORE_UNITS: Final = 3.0
_PING_BYTES: Final = 178.0
_MOST_FAILURES: Final = 16


class Crowd(NamedTuple):
    """How many there are and what happens to them.

    Attributes:
        dead: share of the servers that die at the instant.
        normal_per_s: requests that a server has when nothing happens.
    """

    servers: int
    users: int
    dead: float
    normal_per_s: float


class Probe(NamedTuple):
    """A call of one user: whether it succeeded, and after how long."""

    is_success: bool
    seconds: float


class _Missing(NamedTuple):
    """A step that goes on: how many it asked, and how many did not answer."""

    step: int
    wanted: int
    missing: int


@dataclass(slots=True, eq=False)
class _Search:
    """For introducers: whom to ask, whom it asked, and how many answers are due."""

    near: list[int]
    asked: set[int]
    open: int


class _Registering(NamedTuple):
    """A registration under way, and the tries that are left."""

    search: _Search
    server: int
    tries: int


class Restart:
    """The minutes after the instant.

    Attributes:
        loop: its events.
        registrations_max, requests_max, bytes_max: at one server, the last two in its
            busiest second; requests are those admitted, `offered_max` all that came.
        exited: servers that shut themselves down.
        refused: registrations that were told to go elsewhere.
    """

    def __init__(self, crowd: Crowd, rules: Rules, costs: StartCosts, run: Run) -> None:
        self.loop = EventLoop(run.watch)
        self._bounds = BoundChecker()
        self.registrations_max = self.exited = self.refused = 0
        self.requests_max = self.offered_max = self.bytes_max = 0.0
        self._crowd, self._rules, self._costs = crowd, rules, costs
        self._rng, self._generator = run.rng, run.generator
        servers = np.sort(draw_ids(self._generator, crowd.servers))
        users = draw_ids(self._generator, crowd.users)
        near = min(_NEAR, crowd.servers)
        self._nearest: list[list[int]] = nearest_places(servers, users, near).tolist()
        self._is_alive = np.full(crowd.servers, fill_value=True)
        self._alive = [True] * crowd.servers
        self._living = list(range(crowd.servers))
        self._desks = [IntroducerDesk(rules.introducer) for _ in self._alive]
        self._room = np.full(crowd.servers, float(rules.requests_burst))
        self._second = np.zeros(crowd.servers)
        self._offered = np.zeros(crowd.servers)
        self._sent = np.zeros(crowd.servers)
        self._hosts = [_host(number) for number in range(crowd.users)]
        self._handles = [number.to_bytes(8, "big") for number in range(crowd.users)]
        self._held: list[list[int]] = [[] for _ in range(crowd.users)]
        self._holders: list[list[int]] = [[] for _ in range(crowd.users)]
        self._lives = [0] * crowd.users
        self._failures = [0] * crowd.users

    def begin(self) -> None:
        """At the instant: servers die, everybody restarts within half a minute."""
        dying = round(self._crowd.servers * self._crowd.dead)
        for server in self._rng.sample(range(self._crowd.servers), dying):
            self._end(server)
        self._living = [s for s in self._living if self._alive[s]]
        latest_s = RESTART_WITHIN_S - _DOWN_S
        for user in range(self._crowd.users):
            at_s = self._rng.uniform(0.0, latest_s) + _DOWN_S
            self.loop.call_at(at_s, self._step, user, 0)
        self.loop.call_at(_TICK_S, self._tick, 0, 1)

    @property
    def alive(self) -> int:
        """Servers that live."""
        return len(self._living)

    @property
    def published(self) -> int:
        """Users whose presence a live holder has."""
        return sum(map(self.is_published, range(self._crowd.users)))

    @property
    def reachable(self) -> int:
        """Users that are published, and one of whose introducers lives."""
        alive = self._alive
        return sum(
            any(alive[server] for server in held) and self.is_published(user)
            for user, held in enumerate(self._held)
        )

    def is_published(self, user: int) -> bool:
        """Whether a live holder has its presence."""
        return any(self._alive[holder] for holder in self._holders[user])

    def probe(self, user: int, caller: int) -> Probe:
        """Call a user through two introducers at once and the third a second later.

        Its introducers do what their desks allow; answers come at once.
        """
        seconds = self._rng.uniform(*ROUND_TRIP_S) * _TRIPS
        if not self.is_published(user):
            return Probe(is_success=False, seconds=0.0)
        source = Endpoint(_host(caller), 1)
        held = self._rng.sample(self._held[user], len(self._held[user]))
        for place, server in enumerate(held):
            if self._alive[server] and self._passes(server, user, source):
                return Probe(is_success=True, seconds=seconds + (place >= _AT_ONCE))
        return Probe(is_success=False, seconds=0.0)

    def _passes(self, server: int, user: int, source: Endpoint) -> bool:
        desk, now = self._desks[server], self.loop.now
        try:
            handle = self._handles[user]
            desk.route(handle, source, now, sealed_size=_SEALED_BYTES)
        except IntroductionRefused:
            return False
        desk.answered(source, now, sealed_size=_SEALED_BYTES)
        return True

    # --- what a user does ---

    def _step(self, user: int, step: int) -> None:
        """Join, put the peer file, look around: then register."""
        costs = self._costs
        wanted = round((costs.requests - costs.stores) * _STEPS[step])
        answered = self._ask(self._drawn(wanted), costs.bytes_each, costs.units)
        if answered < wanted:
            missing = _Missing(step, wanted, wanted - answered)
            self.loop.call_in(repeat_s(), self._repeat, user, missing)
        else:
            self._go_on(user, step)

    def _repeat(self, user: int, missing: _Missing) -> None:
        """Ask once more, and go on with what came: the end does not wait for the late.

        Each silence is another node's turn, so whom is asked is drawn anew.
        """
        step, wanted, count = missing
        costs = self._costs
        again = self._ask(self._drawn(count), costs.bytes_each, costs.units)
        if wanted - count + again < _LEAST_ANSWERS * wanted:
            self._fail(user, step)
        else:
            self._go_on(user, step)

    def _go_on(self, user: int, step: int) -> None:
        waited_s = _TRIPS * self._trip_s()
        if step + 1 < len(_STEPS):
            self.loop.call_in(waited_s, self._step, user, step + 1)
            return
        near = [s for s in self._nearest[user] if self._alive[s]]
        self._held[user] = []
        search = _Search(near, set(), len(near))
        self.loop.call_in(waited_s, self._choose, user, search)

    def _fail(self, user: int, step: int) -> None:
        pause_s = self._rules.pause_s(self._failures[user], self._rng)
        self._failures[user] = min(self._failures[user] + 1, _MOST_FAILURES)
        self.loop.call_in(pause_s, self._step, user, step)

    def _choose(self, user: int, search: _Search) -> None:
        """Ask the nearest that live until three agree, then those that were named."""
        held = self._held[user]
        wanted = min(INTRODUCERS - len(held), MAX_ASKED - len(search.asked))
        fresh = [s for s in dict.fromkeys(search.near) if s not in search.asked]
        chosen = fresh[:wanted]
        if chosen:
            search.asked.update(chosen)
            search.open = len(chosen)
            for server in chosen:
                self._register(user, _Registering(search, server, _TRIES))
        elif held:
            self.loop.call_in(0.0, self._publish, user, None)
        else:
            self._fail(user, len(_STEPS) - 1)

    def _register(self, user: int, one: _Registering) -> None:
        """Ask a server, again while it does not answer; it may name others."""
        search, server, tries = one
        size = self._costs.register_bytes
        if not self._ask_one(server, size, REGISTER_UNITS):
            if tries > 1:
                again = _Registering(search, server, tries - 1)
                self.loop.call_in(steady_s(), self._register, user, again)
                return
        elif self._agrees(server, user):
            self._held[user].append(server)
        elif self._rules.has_alternates:
            search.near += self._rng.sample(self._living, min(3, len(self._living)))
        search.open -= 1
        if not search.open:
            self.loop.call_in(self._trip_s(), self._choose, user, search)

    def _agrees(self, server: int, user: int) -> bool:
        desk, endpoint = self._desks[server], Endpoint(self._hosts[user], 1)
        try:
            desk.register(self._handles[user], endpoint, _REGISTERED_S, self.loop.now)
        except IntroductionRefused:
            self.refused += 1
            return False
        held = desk.statistics().registrations
        self._bounds.measured(
            self.loop.now,
            f"server {server}",
            "registrations",
            size=held,
            bound=self._rules.introducer.max_registrations,
        )
        self.registrations_max = max(self.registrations_max, held)
        return True

    def _publish(self, user: int, missed: list[int] | None) -> None:
        """Put the presence at its holders; the silent ones are asked once more."""
        near = [s for s in self._nearest[user] if self._alive[s]][:PRESENCE_HOLDERS]
        asked = near if missed is None else missed
        size = self._costs.bytes_each
        stored = [s for s in asked if self._ask_one(s, size, _STORE_UNITS)]
        if missed is None:
            self._holders[user] = []
            silent = [s for s in asked if s not in stored]
            if silent:
                self.loop.call_in(repeat_s(), self._publish, user, silent)
        self._holders[user] += stored
        if not self._holders[user]:
            if missed is not None:
                self._fail(user, len(_STEPS) - 1)
            return
        self._failures[user] = 0
        self._lives[user] += 1
        self.loop.call_in(self._keep_s(), self._keep, user, self._lives[user])

    def _keep(self, user: int, life: int) -> None:
        """One introducer's turn: a dead one is noticed, and all are replaced then."""
        if life != self._lives[user] or not self._held[user]:
            return
        server = self._held[user].pop(0)
        self._held[user].append(server)
        self._ask_one(server, _PING_BYTES, 1.0)
        if self._alive[server]:
            self.loop.call_in(self._keep_s(), self._keep, user, life)
            return
        self._held[user] = [s for s in self._held[user] if self._alive[s]]
        self.loop.call_in(repeat_s(), self._step, user, len(_STEPS) - 1)

    def _keep_s(self) -> float:
        return INTERVAL_S / INTRODUCERS

    # --- what servers do ---

    def _drawn(self, count: int) -> npt.NDArray[np.int64]:
        if not self._living:
            return np.empty(0, dtype=np.int64)
        places = self._generator.integers(0, len(self._living), size=count)
        return np.asarray(self._living)[places]

    def _ask(self, servers: npt.NDArray[np.int64], size: float, units: float) -> int:
        """Send a request to each; how many were admitted."""
        np.add.at(self._offered, servers, 1.0)
        is_admitted = (self._room[servers] >= units) & self._is_alive[servers]
        admitted = servers[is_admitted]
        np.subtract.at(self._room, admitted, units)
        np.add.at(self._second, admitted, 1.0)
        np.add.at(self._sent, admitted, size)
        return len(admitted)

    def _ask_one(self, server: int, size: float, units: float) -> bool:
        """Send a request; whether it was admitted."""
        self._offered[server] += 1.0
        if self._room[server] < units or not self._alive[server]:
            return False
        self._room[server] -= units
        self._second[server] += 1.0
        self._sent[server] += size
        return True

    def _tick(self, _: int, number: int) -> None:
        rules = self._rules
        self._room += rules.requests_per_s * _TICK_S
        np.minimum(self._room, rules.requests_burst, out=self._room)
        if number % round(_BUSIEST_S / _TICK_S) == 0:
            self._note_second()
        self.loop.call_in(_TICK_S, self._tick, 0, number + 1)

    def _note_second(self) -> None:
        """Keep the busiest second; servers without limits may end of it."""
        self.requests_max = max(self.requests_max, float(self._second.max()))
        self.offered_max = max(self.offered_max, float(self._offered.max()))
        self.bytes_max = max(self.bytes_max, float(self._sent.max()))
        worst = self._rules.shutdown_at * self._crowd.normal_per_s
        if worst:
            for server in np.flatnonzero(self._second > worst).tolist():
                self.exited += self._alive[server]
                self._end(server)
            self._living = [s for s in self._living if self._alive[s]]
        for counter in (self._second, self._offered, self._sent):
            counter.fill(0.0)

    def _end(self, server: int) -> None:
        self._alive[server] = False
        self._is_alive[server] = False

    def _trip_s(self) -> float:
        return self._rng.uniform(*ROUND_TRIP_S)


def _host(number: int) -> str:
    """A public address of its own for each user."""
    return f"{40 + (number >> 16)}.{number >> 8 & 255}.{number & 255}.1"
