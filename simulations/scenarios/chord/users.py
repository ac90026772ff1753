"""The users that both worlds share: who they are, what they are behind, how long.

Owns the trace of lives, the homes with their NATs, and the calls' callers and callees.
Refuses to know what users do for being reached.
"""

import heapq
import random
from dataclasses import dataclass
from typing import Final

from opnode.protocols.nat.odds import NatType
from simulations.model.durations import NAT_TIMERS_S
from simulations.model.ids import ID_BITS
from simulations.model.sessions import Sessions

_KINDS: Final = ((NatType.PORT, 0.40), (NatType.FULL, 0.30), (NatType.RANDOM, 0.15))
"""What the firewalled are behind, as weights: the mix that the ancestors' users had."""

RESTRICTED: Final = frozenset({NatType.PORT, NatType.RANDOM})
"""Who lets in only whom they wrote to."""


class Box:
    """The NAT of a home, and its table of sessions.

    Kept sessions have a place until they are given up; passing ones until their timer
    is over since their last packet.

    Attributes:
        nat: of which type it is.
        timer_s: a silent session is forgotten after so long.
        kept: sessions that somebody keeps open.
        most: sessions at once so far.
        refused: sessions that found no place.
    """

    __slots__ = (
        "_ends",
        "_looks",
        "kept",
        "most",
        "nat",
        "places",
        "refused",
        "timer_s",
    )

    def __init__(self, nat: NatType, timer_s: float, places: int) -> None:
        self.nat = nat
        self.timer_s = timer_s
        self.places = places
        self.kept = self.most = self.refused = 0
        # When each passing session ends, and the order in which to look.
        self._ends: dict[tuple[int, int], float] = {}
        self._looks: list[tuple[float, tuple[int, int]]] = []

    def sessions(self, now: float) -> int:
        """Places taken at this moment."""
        ends, looks = self._ends, self._looks
        while looks and looks[0][0] <= now:
            pair = heapq.heappop(looks)[1]
            if ends[pair] > now:
                heapq.heappush(looks, (ends[pair], pair))
            else:
                del ends[pair]
        return self.kept + len(ends)

    def keep(self, now: float) -> bool:
        """Take a place for good; False when there is none."""
        if not self._has_room(now):
            return False
        self.kept += 1
        return True

    def pass_through(self, user: int, target: int, now: float) -> bool:
        """Take a place until the timer is over; False when there is none."""
        pair = (user, target)
        if self._ends.get(pair, 0.0) <= now:
            if not self._has_room(now):
                return False
            if pair not in self._ends:
                heapq.heappush(self._looks, (now + self.timer_s, pair))
        self._ends[pair] = now + self.timer_s
        return True

    def _has_room(self, now: float) -> bool:
        taken = self.sessions(now)
        if taken >= self.places:
            self.refused += 1
            return False
        self.most = max(self.most, taken + 1)
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One user from its coming to its leaving, which is without a word.

    Attributes:
        number: of the life; counts from 0 in the order of coming.
        key: its place, uniform in 64 bits.
        home: number of its home.
        since_s: below 0 for those who are there from the beginning.
    """

    number: int
    key: int
    home: int
    since_s: float
    until_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Everybody who will ever live, and where.

    Attributes:
        lives: by number. Whoever leaves is followed by a newcomer in the same home.
        homes: the type and the timer of each home's NAT.
    """

    lives: tuple[Life, ...]
    homes: tuple[tuple[NatType, float], ...]

    def boxes(self, places: int) -> list[Box]:
        """Fresh NATs, one for each home."""
        return [Box(nat, timer_s, places) for nat, timer_s in self.homes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """How many users, and what they are like.

    Attributes:
        users: at any time.
        firewalled: the share of homes behind a NAT.
        home: users who share one.
        sessions: how long they stay.
        until_s: when the simulation ends.
    """

    users: int
    firewalled: float
    home: int
    sessions: Sessions
    until_s: float


def populate(census: Census, rng: random.Random) -> Population:
    """Draw everybody."""
    count = -(-census.users // census.home)
    closed = round(census.firewalled * count)
    kinds = [kind for kind, _ in _KINDS]
    weights = [weight for _, weight in _KINDS]
    nats = [
        *rng.choices(kinds, weights, k=closed),
        *([NatType.OPEN] * (count - closed)),
    ]
    rng.shuffle(nats)
    homes = tuple((nat, rng.choice(NAT_TIMERS_S)) for nat in nats)
    drawn: list[tuple[float, float, int, int]] = []
    for user in range(census.users):
        since_s = 0.0
        until_s = census.sessions.residual_s(rng)
        # Whoever is there from the beginning has been for long.
        drawn.append((-1.0, until_s, user // census.home, rng.getrandbits(ID_BITS)))
        while until_s < census.until_s:
            since_s, until_s = until_s, until_s + census.sessions.whole_s(rng)
            home = user // census.home
            drawn.append((since_s, until_s, home, rng.getrandbits(ID_BITS)))
    drawn.sort()
    lives = tuple(
        Life(number=number, key=key, home=home, since_s=since_s, until_s=until_s)
        for number, (since_s, until_s, home, key) in enumerate(drawn)
    )
    return Population(lives=lives, homes=homes)
