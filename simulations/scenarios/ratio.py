"""What do users cost their servers, and how does that grow with their number?

The costs of single messages are measured on the shipped code at the start of each run
(`simulations.people.costs`, some seconds); how many there are follows from simulated
lookups among so many servers and from the shipped rules for keep-alives, registrations
and presences (`simulations.people.demand`).

``vector`` steps through the sizes from 50 users to ``--users`` and fits the growth: who
is assigned to which server is searched for every user (the nearest three to its id that
have room), so the busiest server is a simulated one. ``event`` sends every message of
one size; ``real`` runs the shipped nodes. The three agree at 100 users on 25 servers,
the first two at 1000 on 100 as well (theory/ratio.md).

Simplified in ``vector`` and ``event``: nobody comes or goes, no packet is lost; callees
are chosen uniformly; servers lie alone in their networks; calls are those of strangers,
who know nothing of each other, with the region of the lookup read to its end. The path
of a call itself needs no server and is not counted; relayed calls are not either.
"""

from typing import Annotated, ClassVar, Final

import msgspec
import numpy as np

from opnode.core.errors import ConfigError
from opnode.protocols.introductions.introducer import IntroducerConfig
from simulations.model.durations import HOUR_S
from simulations.model.ids import draw_ids
from simulations.people.costs import INTRODUCTION_CPU_MS, Costs, measure_costs
from simulations.people.demand import Demand, demand, sample_lookups
from simulations.people.growth import Growth, growth
from simulations.people.load_event import LoadEvents
from simulations.people.load_real import Plan, load_real
from simulations.people.load_vector import Load, Town, load
from simulations.run_context import Run
from simulations.scenario import Backend, Figures, Measured, Scenario, parameter

LEAST_SERVERS: Final = 3
"""As many as a user wants."""

_LEAST_USERS: Final = 50
_STEPS: Final = (1, 3)
"""Sizes in each decade, times the least one."""
_FITTED_SERVERS: Final = 40
"""Below twice k servers a lookup asks all there are: that is growth of another kind."""
_EXPONENT: Final = 0.1
_EXPONENT_BUSIEST: Final = 0.2
"""An extreme: it grows with the logarithm of the servers, by a tenth at a thousand, and
is seen but once in each size."""
_JUDGED_SIZES: Final = 5
"""With fewer the busiest server's growth is one extreme beside another: chance."""
_REAL_USERS: Final = 1000
_EVENT_USERS: Final = 1_000_000
_CAP: Final = IntroducerConfig().max_registrations
_INTRODUCTION_BYTES: Final = 4000.0
_INTRODUCTION_CPU_MS: Final = 2.0


class SizeFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One size. Bytes are on the wire, both ways.

    ``call_bytes``: at all servers together, for one call: lookup and introductions.
    """

    users: int
    servers: int
    server_bytes_per_s: float
    server_bytes_per_s_p99: float
    server_bytes_per_s_max: float
    leaf_bytes_per_s: float
    registrations_mean: float
    registrations_p99: float
    registrations_max: int
    refused: int
    introductions: int
    lookup_queries: float
    lookup_queries_error: float
    call_bytes: float


class RatioFigures(Figures, frozen=True, kw_only=True):
    """``sizes`` as they grow, the costs that were measured, and the fits.

    ``growth_*``: over the sizes with 40 servers and more; none with fewer than three,
    and no part of the bar with fewer than five.
    """

    sizes: tuple[SizeFigures, ...]
    introduction_bytes: float
    introduction_cpu_ms: float
    growth_server: Growth | None
    growth_server_max: Growth | None
    growth_leaf: Growth | None
    growth_call: Growth | None


class RatioScenario(Scenario[RatioFigures], frozen=True, kw_only=True):
    """``users`` of ``users / ratio`` servers, ``calls_per_hour`` each."""

    name: ClassVar[str] = "ratio"
    question: ClassVar[str] = (
        "What do users cost their servers, and how does that grow with their number?"
    )
    expected: ClassVar[str] = (
        "A constant for each user, and a part for tables and lookups that grows with "
        "the logarithm: 9 to 11 kB/s at 100 users a server, half more at the busiest."
    )
    backends: ClassVar[tuple[Backend, ...]] = (
        Backend.VECTOR,
        Backend.EVENT,
        Backend.REAL,
    )

    backend: Backend = Backend.VECTOR
    users: Annotated[
        int, parameter("Users behind NATs, the last size", low=_LEAST_USERS, high=10**7)
    ] = 5_000_000
    ratio: Annotated[
        int,
        parameter("Users for each server; three servers at least", low=1, high=10**5),
    ] = 100
    calls_per_hour: Annotated[
        float,
        parameter("Of each user", unit="1/h", low=0, high=3600, drawn="Poisson"),
    ] = 1.0
    window_s: Annotated[
        float,
        parameter("How long the load is looked at", unit="s", low=60, high=86_400),
    ] = 300.0
    cap: Annotated[int, parameter("Registrations that a server takes", low=1)] = _CAP

    def check(self) -> None:
        """See `Scenario.check`."""
        most = {Backend.REAL: _REAL_USERS, Backend.EVENT: _EVENT_USERS}
        limit = most.get(self.backend, self.users)
        if self.users > limit:
            found = f"{self.users} with --backend {self.backend}"
            raise ConfigError("--users", found, f"at most {limit}")

    def perform(self, run: Run) -> Measured[RatioFigures]:
        """See `Scenario.perform`."""
        costs = measure_costs(self.seed)
        sizes, events = [], 0
        wanted = self._sizes()
        for number, users in enumerate(wanted):
            figures, steps = self._size(users, costs, run)
            sizes.append(figures)
            events += steps
            run.row("sizes", **msgspec.to_builtins(figures))
            run.fold(msgspec.json.encode(figures))
            run.progress(number + 1, len(wanted), "sizes")
        return Measured(_judge(sizes, costs), events, self.window_s)

    def _sizes(self) -> list[int]:
        if self.backend is not Backend.VECTOR:
            return [self.users]
        steps = [
            _LEAST_USERS * step * 10**decade for decade in range(6) for step in _STEPS
        ]
        return [*(size for size in steps if size < self.users), self.users]

    def _size(self, users: int, costs: Costs, run: Run) -> tuple[SizeFigures, int]:
        servers = max(LEAST_SERVERS, users // self.ratio)
        calls_per_s = self.calls_per_hour / HOUR_S
        lookups = sample_lookups(servers, run.rng)
        needed = demand(costs, lookups)
        if self.backend is Backend.REAL:
            plan = Plan(servers, users, calls_per_s, self.window_s)
            found = load_real(plan, run)
            return _figures(users, found.load, needed, lookups.queries_error), (
                found.datagrams
            )
        generator = run.generator
        town = Town(np.sort(draw_ids(generator, servers)), draw_ids(generator, users))
        if self.backend is Backend.EVENT:
            life = LoadEvents(town, costs, calls_per_s, self.cap, run)
            seen = life.run(self.window_s)
            run.fold(life.loop.digest())
            return _figures(users, seen, needed, lookups.queries_error), life.loop.count
        seen = load(town, needed, calls_per_s, self.cap, self.window_s, generator)
        return _figures(users, seen, needed, lookups.queries_error), users


def _figures(users: int, seen: Load, needed: Demand, error: float) -> SizeFigures:
    rates, held = seen.server_bytes_per_s, seen.registrations
    return SizeFigures(
        users=users,
        servers=len(held),
        server_bytes_per_s=float(rates.mean()),
        server_bytes_per_s_p99=float(np.quantile(rates, 0.99)),
        server_bytes_per_s_max=float(rates.max()),
        leaf_bytes_per_s=seen.user_bytes_per_s,
        registrations_mean=float(held.mean()),
        registrations_p99=float(np.quantile(held, 0.99)),
        registrations_max=int(held.max()),
        refused=seen.refused,
        introductions=seen.introductions,
        lookup_queries=needed.queries,
        lookup_queries_error=error,
        call_bytes=needed.call,
    )


def _judge(sizes: list[SizeFigures], costs: Costs) -> RatioFigures:
    fitted = [one for one in sizes if one.servers >= _FITTED_SERVERS]
    users = [one.users for one in fitted]
    server = growth(users, [one.server_bytes_per_s for one in fitted])
    busiest = growth(users, [one.server_bytes_per_s_max for one in fitted])
    call = growth(users, [one.call_bytes for one in fitted])
    limits = ((server, _EXPONENT), (call, _EXPONENT), (busiest, _EXPONENT_BUSIEST))
    is_slow = len(fitted) < _JUDGED_SIZES or all(
        one is None or one.exponent_late <= most for one, most in limits
    )
    is_cheap = (
        costs.introduction_bytes <= _INTRODUCTION_BYTES
        and INTRODUCTION_CPU_MS <= _INTRODUCTION_CPU_MS
    )
    return RatioFigures(
        met=is_slow and is_cheap,
        sizes=tuple(sizes),
        introduction_bytes=costs.introduction_bytes,
        introduction_cpu_ms=INTRODUCTION_CPU_MS,
        growth_server=server,
        growth_server_max=busiest,
        growth_leaf=growth(users, [one.leaf_bytes_per_s for one in fitted]),
        growth_call=call,
    )
