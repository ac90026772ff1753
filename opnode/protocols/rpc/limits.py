"""How much work others may cause here: by address, by subnet, by key and in all.

Owns the token buckets and the memory that they take. Refuses to know what is asked and
what becomes of a request that is not admitted.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Generic, NamedTuple, TypeVar

from opnode.core.addresses import is_loopback, is_public, subnet_group

Key = TypeVar("Key", bound=Hashable)

# Buckets in use until the first look for full ones; a few kilobytes.
_SWEEP_AT: Final = 64


class Rates(NamedTuple):
    """Units of work a second that are admitted of one scope of addresses.

    Attributes:
        address: of one host, whatever its ports: a port costs an attacker nothing.
        subnet: of one /24 or /48, which one owner has at the price of one address.
        total: of all together.
    """

    address: float
    subnet: float
    total: float


_PUBLIC: Final = Rates(200.0, 500.0, 5_000.0)
_PRIVATE: Final = Rates(2_000.0, 5_000.0, 10_000.0)
_LOOPBACK: Final = Rates(20_000.0, 20_000.0, 20_000.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitConfig:
    """Limits. A unit is what a FIND_NODE costs: 30 to 50 µs of a core.

    Attributes:
        public: one address can have 1 % of a core, a subnet 2.5 % and everybody a
            quarter, so that the node's own people and connections never wait for it.
            A household behind one address asks one node less than once a second.
        private: who is in the same private network was let in by its owner, and many
            nodes may share its few subnets. Half of a core in all, because a private
            source address can be forged from outside where nobody filters.
        loopback: who sends from this machine can have its core anyway, and a thousand
            nodes of one process share one address. More than a core serves.
        unproven: the share that requests without a valid token have. They have buckets
            of their own: whoever forges source addresses takes from these alone.
        hot_key: the share of a total that goes to one key, so that a record which
            everybody wants leaves the other half for all others.
        burst_s: so many seconds' worth may come at once: a client that starts, or all
            readers of a record that changed.
        tracked: hosts, subnets and keys remembered, each; 150 bytes. Those whose bucket
            is full again are forgotten first, which loses nothing. Beyond it a newcomer
            is judged by the wider buckets alone.
        busy_per_s: refused askers with a token that are told so. An answer is work too.
    """

    public: Rates = _PUBLIC
    private: Rates = _PRIVATE
    loopback: Rates = _LOOPBACK
    unproven: float = 0.5
    hot_key: float = 0.5
    burst_s: float = 2.0
    tracked: int = 4096
    busy_per_s: float = 10.0


class Buckets(Generic[Key]):
    """Token buckets of many keys, as the times at which each is full again.

    The generic cell rate algorithm (ITU-T I.371): one number for a bucket, and a bucket
    that is full needs none.
    """

    __slots__ = ("_burst_s", "_full_at", "_max", "_sweep_at")

    def __init__(self, burst_s: float, tracked: int) -> None:
        self._burst_s = burst_s
        self._max = tracked
        self._sweep_at = min(_SWEEP_AT, tracked)
        self._full_at: dict[Key, float] = {}

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: Key, cost_s: float, now: float) -> bool:
        """Take one unit of work out of a bucket; False when it is empty.

        Args:
            key: whose bucket.
            cost_s: seconds in which the bucket gains that much again.
            now: seconds.
        """
        full_at = self._full_at.get(key)
        if full_at is None:
            if len(self._full_at) >= self._sweep_at and not self._sweep(now):
                return True
            self._full_at[key] = now + cost_s
            return True
        if full_at <= now:
            self._full_at[key] = now + cost_s
            return True
        if full_at - now > self._burst_s:
            return False
        self._full_at[key] = full_at + cost_s
        return True

    def _sweep(self, now: float) -> bool:
        """Forget the full ones; whether there is room for one more."""
        self._full_at = {
            key: full_at for key, full_at in self._full_at.items() if full_at > now
        }
        # Twice as many before the next one: a sweep costs each newcomer a step or two.
        self._sweep_at = min(self._max, max(_SWEEP_AT, 2 * len(self._full_at)))
        return len(self._full_at) < self._max


class _Ration:
    """The buckets of one scope, for askers with or without a token."""

    __slots__ = (
        *("address_s", "addresses", "is_one", "key_s", "keys"),
        *("subnet_s", "subnets", "total_s", "totals"),
    )

    def __init__(self, rates: Rates, share: float, config: LimitConfig) -> None:
        self.address_s = 1.0 / (share * rates.address)
        self.subnet_s = 1.0 / (share * rates.subnet)
        self.total_s = 1.0 / (share * rates.total)
        self.key_s = self.total_s / config.hot_key
        # Whether the wider buckets say nothing that the total does not: loopback.
        self.is_one = min(rates.address, rates.subnet) >= rates.total
        self.addresses: Buckets[str] = Buckets(config.burst_s, config.tracked)
        self.subnets: Buckets[bytes] = Buckets(config.burst_s, config.tracked)
        self.totals: Buckets[None] = Buckets(config.burst_s, 1)
        # Here and not for all askers: forged ones could make a record unreadable.
        self.keys: Buckets[bytes] = Buckets(config.burst_s, config.tracked)

    def take(self, host: str, subnet: bytes, units: float, now: float) -> bool:
        if self.is_one:
            return self.totals.take(None, units * self.total_s, now)
        return (
            self.addresses.take(host, units * self.address_s, now)
            and self.subnets.take(subnet, units * self.subnet_s, now)
            and self.totals.take(None, units * self.total_s, now)
        )


class RequestLimits:
    """Which requests of others a node works on. A decision costs 1 µs."""

    def __init__(self, config: LimitConfig) -> None:
        self._busy_s = 1.0 / config.busy_per_s
        self._busy: Buckets[None] = Buckets(1.0, 1)
        scopes = (config.public, config.private, config.loopback)
        # By the scope's number: the hash of an enum's member is slow.
        self._proven = tuple(_Ration(rates, 1.0, config) for rates in scopes)
        share = config.unproven
        self._unproven = tuple(_Ration(rates, share, config) for rates in scopes)

    def admits(
        self,
        host: str,
        *,
        verified: bool,
        units: float,
        now: float,
        key: bytes | None = None,
    ) -> bool:
        """Whether a request of this host is worked on.

        Args:
            host: the source address; forged, for all we know, unless ``verified``.
            verified: it showed a valid token.
            units: the work it takes, in FIND_NODEs.
            now: seconds.
            key: what it asks for, if many may want the same at once.
        """
        scope, subnet = _place_of(host)
        ration = (self._proven if verified else self._unproven)[scope]
        if not ration.take(host, subnet, units, now):
            return False
        return key is None or ration.keys.take(key, ration.key_s, now)

    def may_say_busy(self, now: float) -> bool:
        """Whether this refused asker is told so."""
        return self._busy.take(None, self._busy_s, now)


@lru_cache(maxsize=4096)
def _place_of(host: str) -> tuple[int, bytes]:
    """The number of the host's scope (public, private, loopback) and its subnet."""
    subnet = subnet_group(host)
    if is_public(host):
        return 0, subnet
    return 2 if is_loopback(host) else 1, subnet
