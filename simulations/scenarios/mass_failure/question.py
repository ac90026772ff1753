"""What is asked of each backend about mass failures, and what it answers.

Owns the values that the backends share, and the bars. Refuses to know engines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from opnode.drivers.dht.config import DhtConfig
from simulations.reads import Reads
from simulations.scenario import Figures

K: Final = 20
REFRESH_S: Final = DhtConfig().refresh_s
"""The pause between two refreshes of a bucket: a period of healing."""
SETTLE_S: Final = 3600.0
"""Nodes that know each other for an hour: nobody is a newcomer any more."""
_AT_ONCE: Final = 0.95
_HEALED: Final = 0.99
_HALF: Final = 0.5
"""The bars hold for up to so many dead; beyond, the figures alone tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What every backend is asked; see the fields of the scenario."""

    nodes: int
    dead: float
    records: int
    gets: int
    periods: int


class Aftermath(msgspec.Struct, frozen=True, kw_only=True):
    """The network so many refresh periods after the failure.

    Attributes:
        stale_rate: contacts in the tables of the living that are dead.
        holders_min, holders_mean: living holders of a record.
        closest_rate: of the k living nodes nearest to a record those that hold it.
        first: reads of records that nobody read since the failure.
    """

    periods: int
    stale_rate: float
    holders_min: int
    holders_mean: float
    closest_rate: float
    first: Reads


class MassFailureFigures(Figures, frozen=True, kw_only=True):
    """Before, at once, and after each period.

    Attributes:
        died: nodes that did.
        lost: records of which every holder died.
        success_at_once, success_healed: of reads right after the failure, and one
            refresh period later.
        p99_s_before, p99_s_at_once, p99_s_healed: how long reads took.
        datagrams_per_node_s: sent by a living node since, on average; -1 on events,
            which count no single datagrams.
    """

    died: int
    lost: int
    success_at_once: float
    success_healed: float
    p99_s_before: float
    p99_s_at_once: float
    p99_s_healed: float
    datagrams_per_node_s: float
    after: tuple[Aftermath, ...]


def figures_of(
    before: Reads,
    after: Sequence[Aftermath],
    *,
    dead: float,
    died: int,
    lost: int,
    datagrams_per_node_s: float,
) -> MassFailureFigures:
    """Judge what was seen."""
    at_once, healed = after[0].first, after[min(1, len(after) - 1)].first
    is_forged = bool(at_once.forged or healed.forged)
    is_well = at_once.success >= _AT_ONCE and healed.success >= _HEALED
    return MassFailureFigures(
        met=not is_forged and (dead > _HALF or is_well),
        died=died,
        lost=lost,
        success_at_once=at_once.success,
        success_healed=healed.success,
        p99_s_before=before.s_p99,
        p99_s_at_once=at_once.s_p99,
        p99_s_healed=healed.s_p99,
        datagrams_per_node_s=datagrams_per_node_s,
        after=tuple(after),
    )


def cells_of(seen: Aftermath) -> dict[str, float]:
    """A row of the time series ``healing``."""
    return {
        "t_h": float(seen.periods),
        "stale_rate": seen.stale_rate,
        "holders_mean": seen.holders_mean,
        "closest_rate": seen.closest_rate,
        "success": seen.first.success,
        "read_s_median": seen.first.s_median,
        "read_s_p99": seen.first.s_p99,
    }
