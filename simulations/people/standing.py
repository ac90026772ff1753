"""Connections that stand: what interrupts them, and messages sent meanwhile.

Owns the gaps of a connection and what a message meets. Refuses to know how a connection
is made: established ones need nobody for keep-alives, and moves need introducers only
when both ends are elsewhere at once.

The rules are the shipped ones as they were measured on real nodes
(simulations/README.md, and docs/protocols: ice.md §8, relay.md §4):

    python -m simulations run moving --servers 6 --kinds full,port       0.2 to 1.1 s
    python -m simulations run moving --servers 6 --kinds port --how new-address
                                                  3.8 to 6.9 s; 2.6 s since silence is
                                                  noticed: the longer ones are kept
    tests/unit/node/test_relay_way.py (a relay is killed)                2.4 s

Simplified: gaps are uniform between what was measured; a message waits for the end of
the gap, as RUDP repeats it. A connection ends when it was silent for ``idle_timeout_s``
of the shipped `RudpConfig`, gaps that touch counted as one. Loss bursts are cut at the
30 s after which consent ends: an end without network for longer is not up.
"""

from typing import Final, NamedTuple

import numpy as np

from opnode.protocols.rudp.config import RudpConfig
from simulations.model.arrays import Floats
from simulations.model.durations import DAY_S

NOTICED_S: Final = (0.2, 1.1)
UNNOTICED_S: Final = (3.8, 6.9)
RELAY_S: Final = (2.0, 2.8)
_LONGEST_BURST_S: Final = 30.0
_BOTH_S: Final = 1.1
"""Moves of both ends so close to each other leave no address that is known."""
_AGAIN_S: Final = 40.0
"""Until an end whose introducers are all gone has others and said so: a third of the
longest interval."""


class Weather(NamedTuple):
    """What happens to connections: events a day, and how long bursts are.

    Attributes:
        days: how long it goes on.
        bursts: times in which nothing passes.
        burst_median_s, burst_sigma: of a log-normal.
        moves: of each end, to another address of its own; it notices.
        rebindings: of each end's NAT, of which nobody is told.
        relayed: share of the connections that need a relay.
        relay_deaths: of the relay in use.
        lost_introducers: probability that all introducers of an end are gone.
    """

    days: float
    bursts: float
    burst_median_s: float
    burst_sigma: float
    moves: float
    rebindings: float
    relayed: float
    relay_deaths: float
    lost_introducers: float


class Standing(NamedTuple):
    """What messages met.

    Attributes:
        failed: messages whose connection ended.
        waits_s: of all messages, for the end of a gap; 0 for most.
        gaps: of all connections.
        met_both: gaps in which both ends moved.
        ended: connections that ended.
    """

    failed: int
    waits_s: Floats
    gaps: int
    met_both: int
    ended: int


def stand(
    connections: int, probes: int, weather: Weather, generator: np.random.Generator
) -> Standing:
    """Send so many messages at random moments over these connections."""
    waits, gaps, both, failed, ended = [], 0, 0, 0, 0
    shares = np.full(connections, probes // connections)
    shares[: probes % connections] += 1
    for number in range(connections):
        starts, ends, met = _gaps(number, connections, weather, generator)
        at = generator.uniform(0.0, weather.days * DAY_S, size=int(shares[number]))
        place = np.searchsorted(starts, at, side="right") - 1
        is_in_gap = (place >= 0) & (at < ends[place])
        waits.append(np.where(is_in_gap, ends[place] - at, 0.0))
        is_end = ends - starts >= RudpConfig().idle_timeout_s
        failed += int((is_in_gap & is_end[place]).sum())
        ended += int(is_end.sum())
        gaps += len(starts)
        both += met
    return Standing(failed, np.concatenate(waits), gaps, both, ended)


def _gaps(
    number: int, connections: int, weather: Weather, generator: np.random.Generator
) -> tuple[Floats, Floats, int]:
    """Begin and end of each silence of one connection, and how often both moved."""
    days = weather.days
    bursts = _moments(weather.bursts, days, generator)
    longs = weather.burst_median_s * np.exp(
        weather.burst_sigma * generator.standard_normal(len(bursts))
    )
    moves = [_moments(weather.moves, days, generator) for _ in range(2)]
    rebound = _moments(2 * weather.rebindings, days, generator)
    is_relayed = number < round(weather.relayed * connections)
    relay_deaths = weather.relay_deaths if is_relayed else 0.0
    deaths = _moments(relay_deaths, days, generator)
    parts = [
        (bursts, np.minimum(longs, _LONGEST_BURST_S)),
        *((moved, generator.uniform(*NOTICED_S, size=len(moved))) for moved in moves),
        (rebound, generator.uniform(*UNNOTICED_S, size=len(rebound))),
        (deaths, generator.uniform(*RELAY_S, size=len(deaths))),
    ]
    met = _both(*moves)
    is_lost = generator.random(len(met)) < 2 * weather.lost_introducers
    parts.append((met, np.where(is_lost, _AGAIN_S, _BOTH_S)))
    starts = np.concatenate([start for start, _ in parts])
    ends = starts + np.concatenate([length for _, length in parts])
    return (*_merged(starts, ends), len(met))


def _moments(per_day: float, days: float, generator: np.random.Generator) -> Floats:
    count = generator.poisson(per_day * days)
    return generator.uniform(0.0, days * DAY_S, size=count)


def _both(first: Floats, second: Floats) -> Floats:
    """Moments at which one end moved within a second of the other's move."""
    ordered = np.sort(second)
    if not len(ordered):
        return ordered
    after = np.searchsorted(ordered, first - _BOTH_S)
    near = ordered[np.minimum(after, len(ordered) - 1)]
    return first[np.abs(near - first) <= _BOTH_S]


def _merged(starts: Floats, ends: Floats) -> tuple[Floats, Floats]:
    """Gaps that touch are one; at least one, of no length, at the beginning."""
    starts, ends = np.append(starts, 0.0), np.append(ends, 0.0)
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    is_new = np.append(True, starts[1:] > ends[:-1])
    lasts = np.append(np.flatnonzero(is_new)[1:] - 1, len(starts) - 1)
    return starts[is_new], ends[lasts]
