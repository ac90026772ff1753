"""How users start and servers defend themselves: the shipped rules, and none.

Owns the numbers of the two kinds of rules. Refuses to know who is where.
"""

import random
from typing import Final, NamedTuple

from opnode.node.presence.presence import RETRY_CAP_S, RETRY_S
from opnode.protocols.introductions.introducer import IntroducerConfig
from opnode.protocols.rpc.limits import LimitConfig
from opnode.protocols.rpc.transactions import TransactionConfig
from simulations.model.durations import LATENCY_S

_TRANSACTIONS: Final = TransactionConfig()
_NO_LIMIT: Final = 10**9
ROUND_TRIP_S: Final = (2 * LATENCY_S[0], 2 * LATENCY_S[1])
"""Uniform."""


class Rules(NamedTuple):
    """What servers and users do when there is too much.

    Attributes:
        introducer: limits on registrations and on what is passed on.
        requests_per_s: that a server answers; the others are dropped.
        requests_burst: at once above it.
        has_alternates: a busy server names others.
        has_jitter: pauses are drawn, and grow.
        shutdown_at: a server ends when it has so many times its normal load; 0: never.
    """

    introducer: IntroducerConfig
    requests_per_s: float
    requests_burst: float
    has_alternates: bool
    has_jitter: bool
    shutdown_at: float

    def pause_s(self, failures: int, rng: random.Random) -> float:
        """After so many failures in a row (P-5)."""
        if not self.has_jitter:
            return RETRY_S
        longest_s = min(RETRY_S * 2**failures, RETRY_CAP_S)
        return rng.uniform(longest_s / 10, longest_s)


def shipped_rules(cap: int) -> Rules:
    """Ours, with room for so many registrations."""
    limits = LimitConfig()
    return Rules(
        introducer=IntroducerConfig(max_registrations=cap),
        requests_per_s=limits.public.total,
        requests_burst=limits.public.total * limits.burst_s,
        has_alternates=True,
        has_jitter=True,
        shutdown_at=0.0,
    )


def naive_rules(shutdown_at: float) -> Rules:
    """Nothing of ours: no limits, no alternates, no jitter, and a last resort."""
    return Rules(
        introducer=IntroducerConfig(
            max_registrations=_NO_LIMIT,
            max_registrations_per_host=_NO_LIMIT,
            registrations_per_s=_NO_LIMIT,
            registrations_burst=_NO_LIMIT,
            offers_per_s=_NO_LIMIT,
            offers_burst=_NO_LIMIT,
            total_offers_per_s=_NO_LIMIT,
            total_burst=_NO_LIMIT,
            bytes_per_s=_NO_LIMIT,
            bytes_burst=_NO_LIMIT,
        ),
        requests_per_s=_NO_LIMIT,
        requests_burst=_NO_LIMIT,
        has_alternates=False,
        has_jitter=False,
        shutdown_at=shutdown_at,
    )


def steady_s() -> float:
    """Until a registration is repeated: it has no other way."""
    return _TRANSACTIONS.steady_s


def repeat_s() -> float:
    """Until a question of a lookup is repeated."""
    return _TRANSACTIONS.initial_timeout_s
