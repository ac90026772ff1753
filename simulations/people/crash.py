"""Servers die and everybody restarts, as events: the run from the instant on.

Owns the calls of a sample of users, the share of all that can be reached, and what the
servers had to do at their worst. Refuses to know how a user starts (`restart`).
"""

import statistics
from typing import Final, NamedTuple

from opnode.node.presence.introducers import INTRODUCERS
from opnode.node.presence.publishing import PRESENCE_HOLDERS
from simulations.introductions import Calls, calls_of
from simulations.model.durations import HOUR_S, NAT_TIMERS_S
from simulations.people.crowd_rules import naive_rules, shipped_rules
from simulations.people.keeping import interval_s, presence_period_s
from simulations.people.restart import Crowd, Restart
from simulations.people.starts import measure_starts
from simulations.run_context import Run

_ROUNDS_S: Final = (60.0, 300.0)
_EVERY_S: Final = 5.0
_CALLED: Final = 20
"""Users called in each round, for each server: all at once would be another flood."""
_LOOKUP_QUERIES: Final = 22
_BACK: Final = 0.99


class Plan(NamedTuple):
    """What happens, and under which rules.

    Attributes:
        cap: registrations that a server takes.
        shutdown_at: naive servers end at so many times their normal load; 0: the
            shipped rules are in force.
        start_requests: of one start; 0: as many as were measured.
    """

    servers: int
    users: int
    dead: float
    cap: int
    shutdown_at: float
    start_requests: int


class Crashed(NamedTuple):
    """What came of it.

    Attributes:
        calls: of the sample, after 60 and 300 s.
        reachable: share of all users, then.
        published: users, after 60 s.
        back_s: until 99 % could be reached; infinite when they could not.
        restart: the crowd at the end, with its counters.
        normal_per_s: requests of a server when nothing happens.
    """

    calls: tuple[Calls, Calls]
    reachable: tuple[float, float]
    published: int
    back_s: float
    restart: Restart
    normal_per_s: float


def crash(plan: Plan, run: Run) -> Crashed:
    """Let it happen, and look for five minutes."""
    costs = measure_starts(run.seed)
    if plan.start_requests:
        factor = plan.start_requests / costs.requests
        costs = costs.scaled(factor)
    normal = normal_requests_per_s() * plan.users / plan.servers
    rules = (
        naive_rules(plan.shutdown_at) if plan.shutdown_at else shipped_rules(plan.cap)
    )
    crowd = Crowd(plan.servers, plan.users, plan.dead, normal)
    restart = Restart(crowd, rules, costs, run)
    restart.begin()
    calls, shares, published, back_s = [], [], 0, float("inf")
    for number in range(1, round(_ROUNDS_S[-1] / _EVERY_S) + 1):
        at_s = number * _EVERY_S
        restart.loop.run_until(at_s)
        share = restart.reachable / plan.users
        if share >= _BACK:
            back_s = min(back_s, at_s)
        run.row("minutes", t_s=at_s, reachable=share, servers=restart.alive)
        run.progress(at_s, _ROUNDS_S[-1], "seconds")
        if at_s in _ROUNDS_S:
            calls.append(_call_some(restart, plan, run))
            shares.append(share)
            published = published or restart.published
        if not restart.alive and number > 1:
            # Nobody is there to come back to.
            nobody = calls_of([None] * min(plan.users, _CALLED * plan.servers))
            calls, shares = [*calls, nobody, nobody], [*shares, 0.0, 0.0]
            break
    run.fold(restart.loop.digest())
    return Crashed(
        (calls[0], calls[1]),
        (shares[0], shares[1]),
        published,
        back_s,
        restart,
        normal,
    )


def normal_requests_per_s() -> float:
    """Of one user at all servers together, with one call an hour."""
    kept = statistics.fmean(INTRODUCERS / interval_s(timer) for timer in NAT_TIMERS_S)
    put = PRESENCE_HOLDERS / presence_period_s()
    return kept + put + (_LOOKUP_QUERIES + INTRODUCERS) / HOUR_S


def _call_some(restart: Restart, plan: Plan, run: Run) -> Calls:
    count = min(plan.users, _CALLED * plan.servers)
    called = run.rng.sample(range(plan.users), count)
    probes = [restart.probe(user, run.rng.randrange(plan.users)) for user in called]
    return calls_of([one.seconds if one.is_success else None for one in probes])
