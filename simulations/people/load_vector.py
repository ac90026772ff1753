"""The load of every server, by arrays: who holds whom, times what that costs.

Owns the sum over users as counts at each server, and the chance in who is called.
Refuses to know messages one by one: `load_event` has those.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from opnode.node.presence.introducers import INTRODUCERS
from opnode.node.presence.publishing import PRESENCE_HOLDERS
from simulations.model.arrays import Floats, Ids
from simulations.model.ids import nearest_places
from simulations.people.demand import Demand
from simulations.people.places import assign


class Town(NamedTuple):
    """Who there is: ids of servers, sorted, and of users."""

    servers: Ids
    users: Ids


class Load(NamedTuple):
    """What servers and users spent.

    Attributes:
        server_bytes_per_s: of each server, on the wire, both ways.
        user_bytes_per_s: of a user on average, calls included.
        registrations: at each server.
        refused: registrations for which there was no room.
        introductions: passed on.
    """

    server_bytes_per_s: Floats
    user_bytes_per_s: float
    registrations: npt.NDArray[np.int64]
    refused: int
    introductions: int


def load(
    town: Town,
    costs: Demand,
    calls_per_s: float,
    cap: int,
    window_s: float,
    generator: np.random.Generator,
) -> Load:
    """Load of a window in which every user makes so many calls a second."""
    servers, users = len(town.servers), len(town.users)
    caps = np.full(servers, cap, dtype=np.int64)
    held = assign(town.servers, town.users, caps, generator)
    holders = min(PRESENCE_HOLDERS, servers)
    holding = np.bincount(
        nearest_places(town.servers, town.users, holders).ravel(), minlength=servers
    )
    registered = held.registrations
    mean = registered * (window_s * calls_per_s * costs.introductions / INTRODUCERS)
    introductions = generator.poisson(mean)
    # The region of a key is read at those who hold what is there, the nearest most.
    reads = holding / max(holding.sum(), 1) * users * calls_per_s * costs.queries
    elsewhere = users * (costs.rest + costs.delegated) / servers + 2 * costs.upkeep
    per_server = (
        registered * costs.registration
        + holding * costs.holding
        + introductions / window_s * costs.introduction
        + reads * costs.query
        + elsewhere
    )
    return Load(
        server_bytes_per_s=per_server,
        # A call is paid for by the caller, its introduction by the callee as well.
        user_bytes_per_s=costs.idle_user + calls_per_s * costs.call,
        registrations=registered,
        refused=held.refused,
        introductions=int(introductions.sum()),
    )
