"""How often an idle user writes to whom: the shipped rules as rates.

Owns the arithmetic of `docs/protocols/introductions.md` section 8, with the constants
of the shipped code, and the interval that the shipped search finds behind a NAT whose
mappings live so long. Refuses to know what a message costs and who gets it.
"""

import math
from typing import Final, NamedTuple

from opnode.node.config import NodeConfig
from opnode.node.presence.presence import RENEW_AT
from opnode.protocols.binding_lifetime import BindingLifetime

_CONFIG: Final = NodeConfig()
INTERVAL_S: Final = _CONFIG.nat_keepalive_s
"""The silence that a user begins with, before it has measured anything."""
_MAX_PROBES: Final = 64
_HALF: Final = 0.5
"""A registration is renewed when half of it is over (P-2)."""


class Keeping(NamedTuple):
    """Rates of one idle user, in exchanges a second.

    Attributes:
        pings: with each of its introducers.
        registers: likewise.
        stores: with each of its holders.
    """

    pings: float
    registers: float
    stores: float


def interval_s(timer_s: float) -> float:
    """The silence that the shipped search settles on behind a NAT with this timer."""
    lifetime = BindingLifetime()
    now = 0.0
    for _ in range(_MAX_PROBES):
        silence_s = lifetime.interval_s
        now += silence_s
        if not lifetime.is_probe_due(silence_s, now):
            break
        if silence_s < timer_s:
            lifetime.survived(silence_s, now)
        else:
            lifetime.lost(silence_s, now)
    return lifetime.interval_s


def keeping(interval: float) -> Keeping:
    """The rates of a user that leaves an introducer in silence for so long."""
    renewed_s = _CONFIG.registration_lifetime_s * _HALF
    # The first turn after the half is a registration in place of a PING.
    turns = math.ceil(renewed_s / interval)
    registers = 1.0 / (turns * interval)
    return Keeping(
        pings=1.0 / interval - registers,
        registers=registers,
        stores=1.0 / presence_period_s(),
    )


def presence_period_s() -> float:
    """Between two renewals of a presence."""
    return _CONFIG.presence_lifetime_s * RENEW_AT
