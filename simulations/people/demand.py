"""What one user, one call and one server's own upkeep cost, among S servers.

Owns the sum of rates times costs: rates are the shipped rules (`keeping`) and simulated
lookups (`routes`), costs are measured on the shipped code (`costs`). Refuses to know
which server bears what.
"""

import random
import statistics
from collections.abc import Sequence
from typing import Final, NamedTuple

from opnode.node.presence.introducers import INTRODUCERS
from opnode.node.presence.publishing import PRESENCE_HOLDERS
from opnode.protocols.lookup.config import LookupConfig
from simulations.model.durations import NAT_TIMERS_S
from simulations.model.ids import sorted_ids
from simulations.people.costs import Costs
from simulations.people.keeping import interval_s, keeping
from simulations.people.routes import Routes

REFRESH_S: Final = 3600.0
"""A bucket that no lookup went to for an hour is refreshed (dht §5)."""

_LOOKUPS: Final = 300
_TABLES: Final = 30


class Lookups(NamedTuple):
    """Lookups and tables among so many servers, on average.

    Attributes:
        queries: nodes asked in one lookup that reads its region to the end.
        queries_error: standard error of that mean.
        on_the_way: of these, asked before one of the k nearest was met.
        buckets: of a server's table, with members.
        contacts: in a server's table.
    """

    queries: float
    queries_error: float
    on_the_way: float
    buckets: float
    contacts: float


class Demand(NamedTuple):
    """Bytes on the wire, both ways; rates are a second.

    Attributes:
        registration: for each introducer of an idle user.
        holding: for each holder of a presence.
        rest: of an idle user, spent at any server: what follows no simple rule.
        delegated: of servers among each other for an idle user: asked and answered.
        query: one question of a call's lookup.
        queries: of one call.
        introduction: at the introducer.
        introductions: passed on for one call.
        upkeep: of a server for its own table; as much again is asked of it.
    """

    registration: float
    holding: float
    rest: float
    delegated: float
    query: float
    queries: float
    introduction: float
    introductions: float
    upkeep: float

    @property
    def idle_user(self) -> float:
        """Of a user whom nobody calls."""
        held = INTRODUCERS * self.registration + PRESENCE_HOLDERS * self.holding
        return held + self.rest

    @property
    def call(self) -> float:
        """Of one call at all servers together: its lookup and its introductions."""
        return self.queries * self.query + self.introductions * self.introduction


def sample_lookups(servers: int, rng: random.Random) -> Lookups:
    """Simulate lookups to random keys, and look at some tables."""
    ids = sorted_ids(servers, rng)
    routes = Routes(ids, rng)
    asked = [routes.lookup(rng.getrandbits(64)) for _ in range(_LOOKUPS)]
    tables = [routes.table_size(rng.choice(ids)) for _ in range(_TABLES)]
    counts = [len(one.nodes) for one in asked]
    return Lookups(
        queries=statistics.fmean(counts),
        queries_error=statistics.stdev(counts) / _LOOKUPS**0.5,
        on_the_way=statistics.fmean(one.on_the_way for one in asked),
        buckets=statistics.fmean(one.buckets for one in tables),
        contacts=statistics.fmean(one.contacts for one in tables),
    )


def delegated_lookups_per_s(costs: Costs) -> float:
    """Lookups that servers do for an idle user, as if that were all they do for it.

    Each asked k nodes where it was measured.
    """
    return costs.delegated_bytes_per_s / (LookupConfig().k * costs.find_node.wire())


def demand(
    costs: Costs, lookups: Lookups, timers_s: Sequence[float] = NAT_TIMERS_S
) -> Demand:
    """Add up; users are behind NATs with these timers, as many behind each."""
    kept = [keeping(interval_s(timer)) for timer in timers_s]
    pings = statistics.fmean(one.pings for one in kept)
    registers = statistics.fmean(one.registers for one in kept)
    delegated = delegated_lookups_per_s(costs) * lookups.queries
    refreshes = lookups.buckets / REFRESH_S * lookups.queries
    checks = lookups.contacts * costs.check_per_contact_per_s
    return Demand(
        registration=pings * costs.ping.wire() + registers * costs.register.wire(),
        holding=kept[0].stores * costs.store.wire(),
        rest=costs.rest_bytes_per_s,
        delegated=2 * delegated * costs.find_node.wire(),
        query=costs.find_value.wire(),
        queries=lookups.queries,
        introduction=costs.introduction_bytes,
        introductions=costs.introductions_per_call,
        upkeep=checks * costs.ping.wire() + refreshes * costs.find_node.wire(),
    )
