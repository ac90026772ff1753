"""Introducers under churn: who can be introduced, as servers come and go for a year.

Owns users who hold the three nearest servers, notice dead ones when their turn comes,
replace all of them then, and publish; and calls of users drawn at random. Refuses to
know established connections and message sizes.

Simplified. Keep-alives are not events: when a server dies, each user that holds it
notices after a uniform part of its interval (the phase of a turn is uniform), unless it
replaces another one sooner. A replacement takes `REPAIR_S`. All servers die silently:
none says good-bye. Who leaves is replaced at once by a newcomer with another id.
Renewals of presences are worked out when somebody asks. Nothing is lost on the way: an
INTRODUCE is repeated nine times. A user counts from its first publication to its last
half minute.
Callers know nobody: direct offers to remembered addresses would only help.
"""

import bisect
import math
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from opnode.node.presence.introducers import INTRODUCERS
from opnode.node.presence.publishing import LOOK_EVERY_S, PRESENCE_HOLDERS
from simulations.backends.event.loop import EventLoop
from simulations.checkers.endings import EndingChecker
from simulations.model.durations import DAY_S, NAT_TIMERS_S
from simulations.model.ids import ID_BITS, nearest_to
from simulations.model.sessions import Sessions
from simulations.people.keeping import (
    interval_s,
    presence_period_s,
)
from simulations.run_context import Run

REPAIR_S: Final = 5.0
"""From the turn at which a dead introducer is noticed to the new presence: a PING is
given up after 1.5 s, looking around and registering take 2 s, the put 1 s."""

TRIES: Final = 3
TRY_S: Final = 10.0
"""One attempt is given up after this long; then the next one looks up anew."""

_ROLL_S: Final = 60.0
_FEW: Final = PRESENCE_HOLDERS // 2


class Churn(NamedTuple):
    """How many there are, and how they come and go.

    Attributes:
        servers, users: at any time.
        server_median_s, user_median_s: of their sessions, Weibull.
        roll_every_s: so often some servers die within a minute.
        roll_share: of the servers.
        rebindings: a day of each user's NAT, unnoticed until the next turn.
    """

    servers: int
    users: int
    server_median_s: float
    user_median_s: float
    roll_every_s: float
    roll_share: float
    rebindings: float


class Called(NamedTuple):
    """Calls, and how many failed at the first try, and at all three."""

    tried: int
    failed_first: int
    failed_all: int
    deaths: int
    replaced: int


@dataclass(slots=True, eq=False)
class _User:
    """One session of a user.

    Attributes:
        named: servers that its presence names.
        lost_until: until then no introducer gets through its NAT.
        repair_at: when it will have replaced all that are dead.
    """

    key: int
    ends_at: float
    interval_s: float
    named: list[int] = field(default_factory=list)
    holders: list[int] = field(default_factory=list)
    put_at: float = 0.0
    looked_at: float = 0.0
    lost_until: float = -math.inf
    repair_at: float = math.inf


class _Attempt(NamedTuple):
    """A call's next try; ``call`` is its number for the checker."""

    user: _User
    number: int
    call: int


class Rolling:
    """Servers and users for as long as the loop runs.

    Attributes:
        loop: its events.
    """

    def __init__(self, churn: Churn, run: Run) -> None:
        self.loop = EventLoop(run.watch)
        self._churn, self._rng = churn, run.rng
        self._endings = EndingChecker(TRIES * TRY_S)
        self._server_sessions = _sessions(churn.server_median_s)
        self._user_sessions = _sessions(churn.user_median_s)
        self._ids: list[int] = []
        self._ends: dict[int, float] = {}
        self._clients: dict[int, set[_User]] = {}
        self._intervals = [interval_s(timer) for timer in NAT_TIMERS_S]
        self._users: list[_User] = []
        self._tried = self._failed_first = self._failed_all = 0
        self._deaths = self._replaced = 0

    def begin(self, until_s: float, probes: int) -> None:
        """Everybody is there; so many calls will be spread over the time until then."""
        for _ in range(self._churn.servers):
            self._arrive(self._server_sessions.residual_s(self._rng))
        for place in range(self._churn.users):
            self._users.append(self._new_user(place))
        pause_s = (until_s - TRIES * TRY_S) / probes
        for number in range(probes):
            # Any moment of its part of the time, so that no rhythm is met.
            at_s = (number + self._rng.random()) * pause_s
            self.loop.call_at(at_s, self._call, number)
        if self._churn.roll_every_s:
            self.loop.call_in(self._churn.roll_every_s, self._roll, 0)

    def called(self) -> Called:
        """What became of the calls so far.

        Raises:
            ViolationError: one goes on for longer than three tries.
        """
        self._endings.finish(self.loop.now)
        return Called(
            self._tried,
            self._failed_first,
            self._failed_all,
            self._deaths,
            self._replaced,
        )

    # --- servers ---

    def _arrive(self, stays_s: float) -> None:
        server = self._rng.getrandbits(ID_BITS)
        bisect.insort(self._ids, server)
        self._ends[server] = self.loop.now + stays_s
        self._clients[server] = set()
        self.loop.call_in(stays_s, self._leave, server >> 1)

    def _leave(self, subject: int, _: object) -> None:
        """A server's time is over; its id lost a bit, to fit into the digest."""
        place = bisect.bisect_left(self._ids, subject << 1)
        if place < len(self._ids) and self._ids[place] >> 1 == subject:
            self._die(place)

    def _die(self, place: int) -> None:
        server = self._ids.pop(place)
        self._ends[server] = self.loop.now
        self._deaths += 1
        # Sorted, as the order of a set of objects is not the same in two processes.
        for user in sorted(self._clients.pop(server), key=lambda one: one.key):
            self._miss(user)
        self._arrive(self._server_sessions.whole_s(self._rng))
        if len(self._ends) > 100 * self._churn.servers:
            self._forget()

    def _forget(self) -> None:
        """Those that died long ago are in nobody's list any more."""
        old_s = self.loop.now - 2 * LOOK_EVERY_S
        kept = {s: at for s, at in self._ends.items() if at >= old_s}
        self._ends = kept

    def _roll(self, _: int, __: object) -> None:
        count = round(self._churn.roll_share * len(self._ids))
        for server in self._rng.sample(self._ids, count):
            self.loop.call_in(self._rng.random() * _ROLL_S, self._leave, server >> 1)
        self.loop.call_in(self._churn.roll_every_s, self._roll, 0)

    def _is_alive(self, server: int) -> bool:
        return self._ends.get(server, -math.inf) > self.loop.now

    def _nearest(self, key: int, count: int) -> list[int]:
        ids = self._ids
        return [ids[place] for place in nearest_to(ids, key, count)]

    # --- users ---

    def _new_user(self, place: int) -> _User:
        rng, now = self._rng, self.loop.now
        user = _User(
            key=rng.getrandbits(ID_BITS),
            ends_at=now + self._user_sessions.whole_s(rng),
            interval_s=self._intervals[place % len(self._intervals)],
        )
        self.loop.call_at(user.ends_at, self._go, place, user)
        self._publish(user)
        self._rebind_later(user)
        return user

    def _go(self, place: int, user: _User) -> None:
        for server in user.named:
            if server in self._clients:
                self._clients[server].discard(user)
        self._users[place] = self._new_user(place)

    def _publish(self, user: _User) -> None:
        """Register with the nearest, and say so."""
        for server in user.named:
            if server in self._clients:
                self._clients[server].discard(user)
        alive = [one for one in user.named if self._is_alive(one)]
        near = self._nearest(user.key, PRESENCE_HOLDERS)
        fresh = [one for one in near if one not in alive]
        user.named = [*alive, *fresh][:INTRODUCERS]
        for server in user.named:
            self._clients[server].add(user)
        user.holders = near
        user.put_at = user.looked_at = self.loop.now
        user.repair_at = math.inf

    def _miss(self, user: _User) -> None:
        """One of its introducers died: it notices when its turn comes."""
        noticed_at = self.loop.now + self._rng.random() * user.interval_s + REPAIR_S
        if noticed_at < user.repair_at:
            user.repair_at = noticed_at
            subject = user.key >> 1
            self.loop.call_at(noticed_at, self._repair, subject, user)

    def _repair(self, _: int, user: _User) -> None:
        now = self.loop.now
        if now >= user.ends_at or now < user.repair_at:
            return
        self._replaced += sum(not self._is_alive(server) for server in user.named)
        self._publish(user)

    def _rebind_later(self, user: _User) -> None:
        if self._churn.rebindings:
            in_s = self._rng.expovariate(self._churn.rebindings / DAY_S)
            if self.loop.now + in_s < user.ends_at:
                self.loop.call_in(in_s, self._rebind, user.key >> 1, user)

    def _rebind(self, _: int, user: _User) -> None:
        """Its NAT forgot it: the next of three turns tells, and it registers anew."""
        turn_s = self._rng.random() * user.interval_s / INTRODUCERS
        user.lost_until = self.loop.now + turn_s + REPAIR_S
        self._rebind_later(user)

    # --- calls ---

    def _call(self, _: int, __: object) -> None:
        """Call somebody who stays for as long as three tries take."""
        stays_until = self.loop.now + TRIES * TRY_S
        user = self._rng.choice(self._users)
        for _ in range(1000):
            if user.ends_at > stays_until:
                break
            user = self._rng.choice(self._users)
        self._tried += 1
        subject = user.key >> 1
        call = self._endings.begin(self.loop.now, f"a call to {subject:016x}")
        self._try(subject, _Attempt(user, 1, call))

    def _try(self, subject: int, attempt: _Attempt) -> None:
        user, number, call = attempt
        if self._is_reachable(user):
            self._endings.end(self.loop.now, call)
            return
        self._failed_first += number == 1
        if number < TRIES:
            again = attempt._replace(number=number + 1)
            self.loop.call_in(TRY_S, self._try, subject, again)
        else:
            self._failed_all += 1
            self._endings.end(self.loop.now, call)

    def _is_reachable(self, user: _User) -> bool:
        """Whether its presence is found, and names somebody who gets through to it."""
        self._renew(user)
        is_found = any(self._is_alive(holder) for holder in user.holders)
        is_open = self.loop.now >= user.lost_until
        return is_found and is_open and any(map(self._is_alive, user.named))

    def _renew(self, user: _User) -> None:
        """Put the presence as often as it was due since anybody asked."""
        period_s = presence_period_s()
        while user.put_at + period_s <= self.loop.now:
            at = user.put_at = user.put_at + period_s
            user.holders = [h for h in user.holders if self._ends.get(h, 0.0) > at]
            if len(user.holders) < _FEW or at >= user.looked_at + LOOK_EVERY_S:
                user.holders = self._nearest(user.key, PRESENCE_HOLDERS)
                user.looked_at = at


def _sessions(median_s: float) -> Sessions:
    """Of the measured shape, with this median."""
    shape = Sessions().shape
    return Sessions(shape=shape, scale_s=median_s / math.log(2) ** (1 / shape))
