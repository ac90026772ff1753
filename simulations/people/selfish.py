"""Volunteers who leave when they serve more than they accept, step by step.

Owns who serves, who left and who comes back, and what that does to the others' load.
Refuses to know what a user costs (`demand`) and whether the outcome is good.

Simplified: a step is hours long and its load is the mean over it; users are there all
the time and hold the nearest three that have room (`places`); who left comes back with
the same rate whatever happened; seeds are run by operators and never leave. Questions
of lookups and puts are spread evenly: those that every server is asked have no limit of
their owner's in a shipped node.
"""

import enum
import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from opnode.node.presence.introducers import INTRODUCERS
from opnode.node.presence.publishing import PRESENCE_HOLDERS
from opnode.protocols.introductions.introducer import IntroducerConfig
from simulations.model.arrays import Floats
from simulations.model.ids import draw_ids
from simulations.people.demand import Demand
from simulations.people.places import NOBODY, Assignment, assign

_DAY_H: Final = 24.0
_SWING: Final = 0.5
"""Calls by day and by night: half more, half less."""
_SHIPPED: Final = IntroducerConfig()
_HALF: Final = 0.5
_NO_CAP: Final = 10**9
_AT_ONCE: Final = 3
"""A call asks all three introducers, if need be."""


class Limits(enum.StrEnum):
    """What servers refuse.

    NONE: nothing. SHIPPED: what a node refuses whose owner told it nothing. OWN: each
    volunteer's node takes only as many registrations as fit into what it accepts.
    TOTAL: as OWN, for half of it, and questions beyond all of it stay unanswered; no
    shipped node can be told that.
    """

    NONE = "none"
    SHIPPED = "shipped"
    OWN = "own"
    TOTAL = "total"


class Village(NamedTuple):
    """Who there is, and what they are like.

    Attributes:
        users, volunteers, seeds: at the beginning.
        accepts_median: bytes a second that a volunteer accepts; log-normal, sigma 1.
        leaves: probability that it leaves in a step in which it served more.
        returns: probability that one who left, or another, comes in a step.
        calls_per_s: of each user.
        step_h: hours of a step.
    """

    users: int
    volunteers: int
    seeds: int
    accepts_median: float
    leaves: float
    returns: float
    calls_per_s: float
    step_h: float


class Step(NamedTuple):
    """One step, as it ended.

    Attributes:
        stay: share of the volunteers that serve.
        over: of those that served, how many served more than they accept.
        success: of introductions at the first try.
        served_bytes_per_s: of a volunteer on average, and the most of a seed.
    """

    stay: float
    over: float
    success: float
    served_bytes_per_s: float
    seed_bytes_per_s_max: float


class Volunteers:
    """The village, from step to step."""

    def __init__(
        self,
        village: Village,
        costs: Demand,
        limits: Limits,
        generator: np.random.Generator,
    ) -> None:
        self._village, self._costs, self._limits = village, costs, limits
        self._generator = generator
        count = village.volunteers + village.seeds
        self._ids = np.sort(draw_ids(generator, count))
        self._users = draw_ids(generator, village.users)
        accepts = village.accepts_median * np.exp(generator.standard_normal(count))
        # Seeds are anywhere among the ids, as everybody is.
        self._is_seed = np.zeros(count, dtype=np.bool_)
        self._is_seed[generator.permutation(count)[: village.seeds]] = True
        self._accepts = np.where(self._is_seed, math.inf, accepts)
        self._serves = np.ones(count, dtype=np.bool_)
        self._steps = 0

    def step(self) -> Step:
        """Some hours: load, then who has enough leaves, and some come back."""
        village, generator = self._village, self._generator
        hour = self._steps * village.step_h
        self._steps += 1
        busy = 1.0 + _SWING * math.sin(2 * math.pi * hour / _DAY_H)
        calls_per_s = village.calls_per_s * busy
        serving = np.flatnonzero(self._serves)
        caps = self._caps(serving, calls_per_s)
        held = assign(self._ids[serving], self._users, caps, generator)
        load = wanted = self._load(held, calls_per_s)
        if self._limits is Limits.TOTAL:
            load = np.minimum(wanted, self._accepts[serving])
        shed = 1.0 - float(load.sum() / wanted.sum())
        is_over = load > self._accepts[serving]
        leaving = is_over & (generator.random(len(serving)) < village.leaves)
        # A presence is not found when all of its holders are silent.
        found = 1.0 - shed**PRESENCE_HOLDERS
        success = found * self._success(held, calls_per_s)
        volunteers = ~self._is_seed[serving]
        gone = np.flatnonzero(~self._serves)
        self._serves[serving[leaving]] = False
        back = gone[generator.random(len(gone)) < village.returns]
        self._serves[back] = True
        return Step(
            stay=float(self._serves[~self._is_seed].mean()),
            over=float(is_over.sum() / max(volunteers.sum(), 1)),
            success=success,
            served_bytes_per_s=float(
                load[volunteers].mean() if volunteers.any() else 0
            ),
            seed_bytes_per_s_max=float(load[~volunteers].max(initial=0.0)),
        )

    def _unavoidable(self, serving: int, calls_per_s: float) -> float:
        """Bytes a second that every server has, whatever it refuses."""
        costs, users = self._costs, self._village.users
        asked = calls_per_s * costs.queries * costs.query
        held = costs.idle_user - INTRODUCERS * costs.registration
        return users * (held + costs.delegated + asked) / serving + 2 * costs.upkeep

    def _per_registration(self, calls_per_s: float) -> float:
        passed = calls_per_s * self._costs.introductions / INTRODUCERS
        return self._costs.registration + passed * self._costs.introduction

    def _caps(
        self, serving: npt.NDArray[np.int64], calls_per_s: float
    ) -> npt.NDArray[np.int64]:
        most = _NO_CAP if self._limits is Limits.NONE else _SHIPPED.max_registrations
        caps = np.full(len(serving), most, dtype=np.int64)
        if self._limits in (Limits.NONE, Limits.SHIPPED):
            return caps
        if self._limits is Limits.TOTAL:
            spare = self._accepts[serving] * _HALF
        else:
            unavoidable = self._unavoidable(len(serving), calls_per_s)
            spare = self._accepts[serving] - unavoidable
        # Its owner thinks of the evening, when most people call.
        evening = self._per_registration(calls_per_s) * (1 + _SWING)
        room = np.clip(spare / evening, 0, most)
        return np.minimum(caps, room.astype(np.int64))

    def _load(self, held: Assignment, calls_per_s: float) -> Floats:
        alike = self._unavoidable(len(held.registrations), calls_per_s)
        each = self._per_registration(calls_per_s)
        return alike + held.registrations.astype(np.float64) * each

    def _success(self, held: Assignment, calls_per_s: float) -> float:
        """Share of calls that some introducer of the callee passes on."""
        passed = self._costs.introductions / INTRODUCERS * self._costs.introduction
        wanted = held.registrations * calls_per_s * passed
        refused = np.zeros(len(wanted))
        if self._limits is not Limits.NONE:
            is_wanted = wanted > _SHIPPED.bytes_per_s
            refused[is_wanted] = 1.0 - _SHIPPED.bytes_per_s / wanted[is_wanted]
        failing = np.where(held.held == NOBODY, 1.0, refused[held.held])
        return float(1.0 - failing[:, :_AT_ONCE].prod(axis=1).mean())
