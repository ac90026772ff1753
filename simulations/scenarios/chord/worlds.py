"""One world with its users: they come, go and call each other, and somebody counts.

Owns the order of lives, the calls and what is looked at each minute. Refuses to know
how users are reached: each kind of world says so.
"""

import abc
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from opnode.protocols.nat.odds import NatType
from simulations.backends.event.loop import EventLoop
from simulations.quantiles import quantile
from simulations.run_context import Run
from simulations.scenarios.chord.bill import Bill
from simulations.scenarios.chord.users import Box, Life, Population

_SETTLED_S: Final = 120.0
"""Somebody who is there for so long can expect to be reached."""
_AGAIN_S: Final = 1.0
LOOK_S: Final = 60.0
_ANY_NUMBER: Final = 1 << 30


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one kind of user spends a second while it is there, both ways, with calls.

    Attributes:
        packets_per_s: UDP packets that leave or arrive, on average.
        bytes_per_s: inside of UDP; 28 more a packet are on the wire.
    """

    packets_per_s: float
    bytes_per_s: float


class WorldFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in one of the two worlds.

    Attributes:
        calls_failed: share of calls that did not reach their callee, at both tries.
        first_tries_failed: ... at the first try.
        call_s_median: until the callee was reached, of those that were.
        firewalled: what users behind a NAT spend; ``unfiltered``: all others.
        bindings_median, bindings_p95, bindings_max: sessions in the NAT of a home, all
            its users together; looked at once a minute.
        refused: sessions that found no place in a NAT's table.
        causes: shares of all packets.
    """

    calls: int
    calls_failed: float
    first_tries_failed: float
    call_s_median: float
    firewalled: Cost
    unfiltered: Cost
    bindings_median: float
    bindings_p95: float
    bindings_max: float
    refused: int
    causes: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What both worlds have in common.

    Attributes:
        seed: of everything that is drawn.
        places: sessions in a NAT; 0 for any number.
        warm_up_s, until_s: when counting begins and ends.
        calls_per_s: of everybody.
    """

    seed: int
    places: int
    warm_up_s: float
    until_s: float
    calls_per_s: float


Done = Callable[[bool], None]


class World(abc.ABC):
    """One way of being reached, and the users who live with it."""

    name: str

    def __init__(self, plan: Plan, population: Population, run: Run) -> None:
        self.loop = EventLoop(run.watch)
        self.rng = random.Random(f"{plan.seed} {self.name}")
        self.bill = Bill(len(population.lives), plan.warm_up_s)
        self.boxes = population.boxes(plan.places or _ANY_NUMBER)
        self.run = run
        self.plan = plan
        self._population = population
        self._calls_rng = random.Random(f"{plan.seed} calls")
        self._present: list[Life] = []
        self._place: dict[int, int] = {}
        self._seconds: list[float] = []
        self._tried = self._failed = self._first_failed = 0
        self._sessions: list[int] = []

    def live(self) -> None:
        """Let all lives be lived."""
        first = [life for life in self._population.lives if life.since_s < 0]
        for life in first:
            self._appear(life)
        self.begin(first)
        for life in self._population.lives:
            if life.since_s >= 0:
                self.loop.call_at(life.since_s, self._come, life.number, life)
            self.loop.call_at(life.until_s, self._leave, life.number, life)
        if self.plan.calls_per_s:
            self._plan_call()
        self.loop.call_at(LOOK_S, self._look, 0)
        while self.loop.now < self.plan.until_s:
            self.loop.run_until(min(self.plan.until_s, self.loop.now + LOOK_S))
            self.run.progress(self.loop.now, self.plan.until_s, f"s of {self.name}")
        self.end()

    @abc.abstractmethod
    def begin(self, lives: list[Life]) -> None:
        """These are there from the beginning and know each other."""

    @abc.abstractmethod
    def come(self, life: Life) -> None:
        """A newcomer."""

    @abc.abstractmethod
    def leave(self, life: Life) -> None:
        """Somebody is gone without a word."""

    @abc.abstractmethod
    def call(self, caller: Life, callee: Life, done: Done) -> None:
        """Try to reach somebody once; tell ``done`` whether it worked."""

    @abc.abstractmethod
    def look(self) -> dict[str, float]:
        """What this world alone has to show, each minute."""

    @abc.abstractmethod
    def end(self) -> None:
        """Settle what is still open."""

    def figures(self) -> WorldFigures:
        """What was found."""
        firewalled, unfiltered = self._costs()
        sessions = self._sessions or [0]
        packets = sum(self.bill.causes.values()) or 1.0
        return WorldFigures(
            calls=self._tried,
            calls_failed=self._failed / max(1, self._tried),
            first_tries_failed=self._first_failed / max(1, self._tried),
            call_s_median=quantile(self._seconds, 0.5),
            firewalled=firewalled,
            unfiltered=unfiltered,
            bindings_median=quantile(sessions, 0.5),
            bindings_p95=quantile(sessions, 0.95),
            bindings_max=max(sessions),
            refused=sum(box.refused for box in self.boxes),
            causes={
                cause: round(count / packets, 4)
                for cause, count in sorted(self.bill.causes.items())
            },
        )

    def box_of(self, life: Life) -> Box:
        """The NAT that somebody lives behind."""
        return self.boxes[life.home]

    def is_open(self, life: Life) -> bool:
        """Whether somebody is behind no NAT."""
        return self.box_of(life).nat is NatType.OPEN

    # Lives.

    def _appear(self, life: Life) -> None:
        self._place[life.number] = len(self._present)
        self._present.append(life)

    def _come(self, number: int, life: Life) -> None:
        del number
        self._appear(life)
        self.come(life)

    def _leave(self, number: int, life: Life) -> None:
        place = self._place.pop(number)
        last = self._present.pop()
        if last is not life:
            self._present[place] = last
            self._place[last.number] = place
        self.leave(life)

    # Calls.

    def _plan_call(self) -> None:
        pause_s = self._calls_rng.expovariate(self.plan.calls_per_s)
        self.loop.call_in(pause_s, self._call_somebody, -1)

    def _call_somebody(self, number: int, argument: object) -> None:
        del number, argument
        self._plan_call()
        now, rng = self.loop.now, self._calls_rng
        caller, callee = (
            self._present[int(rng.random() * len(self._present))] for _ in range(2)
        )
        newest = max(caller.since_s, callee.since_s)
        if caller is callee or now - newest < _SETTLED_S or now < self.plan.warm_up_s:
            return

        def reached(is_first: bool, worked: bool) -> None:
            if not (self._is_there(caller) and self._is_there(callee)):
                # Nobody is to blame.
                return
            if worked or not is_first:
                self._tried += 1
                self._failed += not worked
                self._first_failed += not is_first
            if worked:
                self._seconds.append(self.loop.now - now)
            elif is_first:
                self.loop.call_in(_AGAIN_S, again, caller.number)

        def again(number: int, argument: object) -> None:
            del number, argument
            if self._is_there(caller) and self._is_there(callee):
                self.call(caller, callee, lambda worked: reached(False, worked))

        self.call(caller, callee, lambda worked: reached(True, worked))

    def _is_there(self, life: Life) -> bool:
        return life.until_s > self.loop.now

    # Looking.

    def _look(self, number: int, argument: object) -> None:
        self.loop.call_in(LOOK_S, self._look, number, argument)
        now = self.loop.now
        seen = self.look()
        if now < self.plan.warm_up_s:
            return
        homes = dict.fromkeys(life.home for life in self._present)
        counts = [
            self.boxes[home].sessions(now)
            for home in homes
            if self.boxes[home].nat is not NatType.OPEN
        ]
        self._sessions += counts
        self.run.row(
            self.name,
            t_s=now,
            users=len(self._present),
            bindings_mean=sum(counts) / max(1, len(counts)),
            **seen,
        )

    def _costs(self) -> tuple[Cost, Cost]:
        """Of users behind NATs and of the others, a second of their presence."""
        totals = {True: [0.0, 0.0, 0.0], False: [0.0, 0.0, 0.0]}
        for life in self._population.lives:
            since_s = max(life.since_s, self.plan.warm_up_s)
            seconds = min(life.until_s, self.plan.until_s) - since_s
            if seconds > 0:
                total = totals[self.is_open(life)]
                total[0] += seconds
                total[1] += self.bill.packets[life.number]
                total[2] += self.bill.bytes[life.number]
        costs = [
            Cost(
                packets_per_s=packets / max(seconds, 1.0),
                bytes_per_s=size / max(seconds, 1.0),
            )
            for seconds, packets, size in (totals[False], totals[True])
        ]
        return costs[0], costs[1]
