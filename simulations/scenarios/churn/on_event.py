"""Routing tables under churn: how many contacts are dead, and who stays.

Owns the run on the event engine and what it samples. Refuses to know records, which
`churn` follows on the shipped nodes themselves.
"""

import math
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from opnode.core.errors import ConfigError
from simulations.backends.event.loop import EventLoop
from simulations.backends.event.population import Population
from simulations.backends.event.tables import Tables, depths_for
from simulations.backends.event.upkeep import Prefer, StaleShares, Upkeep, UpkeepConfig
from simulations.model.durations import HOUR_S
from simulations.model.sessions import Sessions
from simulations.model.traces import read_sessions
from simulations.run_context import Run
from simulations.scenario import Figures, Measured

STALE_FULL: Final = 0.04
STALE_OTHER: Final = 0.15
_STAY_ERROR: Final = 0.01
_AGES_H: Final = (0, 1, 2, 4, 8, 16, 24)
_SHOWN_H: Final = (0, 2, 8, 24)
_LEAST: Final = 1000
"""Sessions that a share of those that stay is told of; fewer say little."""
_ROUNDS_S: Final = ((20_000, 30.0), (math.inf, 60.0))
"""Seconds of a round by the number of nodes: larger arrays cost less for each."""


class ChurnFigures(Figures, frozen=True, kw_only=True):
    """What all backends tell.

    Attributes:
        left: nodes that went away.
    """

    left: int


class TablesFigures(ChurnFigures, frozen=True, kw_only=True):
    """What tables were like; means of hourly samples of the second half of the run.

    Attributes:
        nodes_mean: that were there.
        stale_full: dead contacts in buckets that are full, as a share.
        stale_other: in all others.
        stale_first: in the first bucket.
        filled_mean: contacts of a bucket whose range has enough nodes.
        dropped: contacts found dead, in all tables, of the whole run.
        checks_per_node_s: of contacts, at the end.
        stay_0h, stay_2h, stay_8h, stay_24h: of the nodes that are so old, the share
            that is still there an hour later; None where too few were seen.
        stay_error_max: of those, and of some between, against the law of sessions;
            None where sessions come from a file.
    """

    nodes_mean: float
    stale_full: float
    stale_other: float
    stale_first: float
    filled_mean: float
    dropped: int
    checks_per_node_s: float
    stay_0h: float | None = None
    stay_2h: float | None = None
    stay_8h: float | None = None
    stay_24h: float | None = None
    stay_error_max: float | None = None


class Asked(NamedTuple):
    """What a run is asked.

    Attributes:
        trace: sessions in place of drawn ones.
        check_s: pause between two checks; None for the shipped ones.
    """

    nodes: int
    hours: float
    trace: Path | None
    prefer: Prefer
    check_s: float | None


def measure(asked: Asked, run: Run) -> Measured[ChurnFigures]:
    """Let nodes come and go for so long, and look at all tables every hour."""
    horizon_s = asked.hours * HOUR_S
    if horizon_s <= 0:
        raise ConfigError("hours", f"{asked.hours:g}", "more than 0 on event")
    people = _people(asked, run, horizon_s)
    peak = _peak(people)
    tables = Tables(people, run.generator, depths=depths_for(peak))
    loop = EventLoop(run.watch)
    config = UpkeepConfig(
        horizon_s=horizon_s,
        round_s=next(round_s for most, round_s in _ROUNDS_S if peak <= most),
        prefer=asked.prefer,
        check_s=asked.check_s,
    )
    upkeep = Upkeep(loop, people, tables, config, run.generator)
    upkeep.begin()
    samples = _follow(run, loop, upkeep, asked.hours)
    run.fold(loop.digest())
    stay = stay_shares(people, horizon_s)
    for age_h, (share, error) in stay.items():
        run.row(
            "stay", age_h=age_h, share=share, error=error, law=law_of_staying(age_h)
        )
    figures = _figures(samples, upkeep, stay, is_drawn=asked.trace is None)
    return Measured(figures, loop.count, loop.now)


class _Sample(NamedTuple):
    nodes: int
    shares: StaleShares


class Stay(NamedTuple):
    """Of the nodes of an age, who is there an hour later; and its standard error."""

    share: float
    error: float


def _people(asked: Asked, run: Run, horizon_s: float) -> Population:
    if asked.trace is None:
        return Population.renewing(asked.nodes, horizon_s, Sessions(), run.generator)
    spans = read_sessions(asked.trace)
    if spans[0][0] > horizon_s:
        expected = f"a first session within the {asked.hours:g} hours of the run"
        raise ConfigError("sessions", f"a start at {spans[0][0]:g} s", expected)
    return Population.traced(spans, run.generator)


def _peak(people: Population) -> int:
    """How many are there at once, at most."""
    times = np.concatenate([people.starts, people.ends])
    change = np.repeat([1, -1], len(people))
    # Whoever leaves at the moment that another comes is gone.
    order = np.lexsort((change, times))
    return int(np.cumsum(change[order]).max())


def _follow(run: Run, loop: EventLoop, upkeep: Upkeep, hours: float) -> list[_Sample]:
    samples = []
    for hour in range(1, math.ceil(hours) + 1):
        loop.run_until(min(hour, hours) * HOUR_S)
        sample = _Sample(len(upkeep.living.nodes), upkeep.stale_shares())
        samples.append(sample)
        counts = upkeep.counts
        run.row(
            "tables",
            t_s=loop.now,
            nodes=sample.nodes,
            left=counts.left,
            dropped=counts.dropped,
            stale_full=sample.shares.full,
            stale_other=sample.shares.other,
            filled_mean=sample.shares.filled,
        )
        run.progress(min(hour, hours), hours, "hours")
    return samples


def stay_shares(people: Population, horizon_s: float) -> dict[int, Stay]:
    """The share of nodes of an age that stays another hour, by age in hours."""
    starts, length_s = people.starts, people.ends - people.starts
    shares = {}
    for age_h in _AGES_H:
        age_s = age_h * HOUR_S
        # Both ends of that hour lie within the run, so no length decides who counts.
        is_seen = (starts + age_s >= 0) & (starts + age_s + HOUR_S <= horizon_s)
        is_old = is_seen & (length_s > age_s)
        if (count := int(is_old.sum())) >= _LEAST:
            share = float((length_s[is_old] > age_s + HOUR_S).mean())
            shares[age_h] = Stay(share, math.sqrt(share * (1 - share) / count))
    return shares


def law_of_staying(age_h: int) -> float:
    """What `stay_shares` tends to where sessions are drawn."""
    law = Sessions()
    return law.survival((age_h + 1) * HOUR_S) / law.survival(age_h * HOUR_S)


def _figures(
    samples: list[_Sample], upkeep: Upkeep, stay: dict[int, Stay], *, is_drawn: bool
) -> TablesFigures:
    settled = samples[len(samples) // 2 :]
    full = float(np.mean([sample.shares.full for sample in settled]))
    other = float(np.mean([sample.shares.other for sample in settled]))
    is_lawful = all(
        abs(stayed.share - law_of_staying(age_h)) <= max(_STAY_ERROR, 3 * stayed.error)
        for age_h, stayed in stay.items()
    )
    errors = [
        abs(stayed.share - law_of_staying(age_h)) for age_h, stayed in stay.items()
    ]
    shown = {f"stay_{age_h}h": stay[age_h].share for age_h in _SHOWN_H if age_h in stay}
    return TablesFigures(
        met=full <= STALE_FULL and other <= STALE_OTHER and (is_lawful or not is_drawn),
        left=upkeep.counts.left,
        nodes_mean=float(np.mean([sample.nodes for sample in settled])),
        stale_full=full,
        stale_other=other,
        stale_first=float(np.mean([s.shares.by_depth[0] for s in settled])),
        filled_mean=float(np.mean([sample.shares.filled for sample in settled])),
        dropped=upkeep.counts.dropped,
        checks_per_node_s=upkeep.checks_per_node_s(),
        **shown,
        stay_error_max=max(errors) if errors and is_drawn else None,
    )
