"""The node in the middle: tells where offers go, and how many.

Owns registrations and how much it does for strangers. It sees a handle, a source
address and a size, never what an offer says or who makes it. It refuses to know how a
registration proves its handle: the caller of `register` has checked that. The way back
of an answer is the open request that brought the offer.
"""

import enum
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Final, NoReturn

from opnode.core.addresses import Endpoint, is_public, site_of
from opnode.core.errors import ConfigError, IntroductionRefused, RefusalCode
from opnode.protocols.introductions.parts import MAX_PART

# A sweep of a full table takes a millisecond; once a second it is a thousandth.
_SWEEP_INTERVAL_S: Final = 1.0
# Around what is sealed: 28 bytes of IPv4 and UDP, 48 of the RPC, handle and lengths.
_HEADERS: Final = 100
# Below this share of the bytes that may be sent at once, leaves do better elsewhere.
_SHORT: Final = 0.1


class Standing(enum.Enum):
    """What the registrant learns of its standing by a PING, a third of a REGISTER.

    KEPT: we are where the introducer knows us. MOVED: it sees us elsewhere. GONE: it
    does not answer, or is another node.
    """

    KEPT = enum.auto()
    MOVED = enum.auto()
    GONE = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class IntroducerConfig:
    """How much a node does for strangers, each limit with its reason.

    Attributes:
        max_registrations: At about 400 bytes each, 4 MB.
        max_registrations_per_host: Devices behind one home's or office's address.
        max_lifetime_s: Beyond an hour, a registration outlives most mappings of NATs.
        offers_per_s: Steady rate of one source; 11 kB/s to us and on to others.
        offers_burst: A hundred calls at once from one address and their repeats.
        total_offers_per_s: Steady rate of all sources: 0.6 MB/s.
        total_burst: Two seconds of that.
        bytes_per_s: What is sent on for strangers, who are at public addresses, with
            headers, on average: 128 kbit/s, an eighth of a thin uplink. Seven
            introductions a second, 600 000 a day.
        bytes_burst: At once above it: a minute's worth, 400 introductions.
        source_share: Of the bytes, for one source: whoever uses up its own share keeps
            nobody else out.
        registrations_per_s: New ones and renewals; 0.3 ms each, so 6 % of a core. As
            many leaves as have room here renew at a quarter of it, and when all of
            1000 start anew at once they are served in the burst.
        registrations_burst: At once above it.
        max_sources: Sources whose rate is remembered, at about 300 bytes each.
    """

    max_registrations: int = 10_000
    max_registrations_per_host: int = 256
    max_lifetime_s: float = 3600.0
    offers_per_s: float = 10.0
    offers_burst: float = 200.0
    total_offers_per_s: float = 500.0
    total_burst: float = 1000.0
    bytes_per_s: float = 16_384.0
    bytes_burst: float = 1_000_000.0
    source_share: float = 0.25
    registrations_per_s: float = 200.0
    registrations_burst: float = 2000.0
    max_sources: int = 4096

    def __post_init__(self) -> None:
        if self.bytes_per_s <= 0:
            raise ConfigError("bytes_per_s", str(self.bytes_per_s), "more than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class IntroducerStatistics:
    """Counters since the desk began, and what it holds now.

    Attributes:
        bytes_per_s: the limit on what is sent on for strangers.
        bytes_left: that may be sent on at once.
    """

    registrations: int
    sources: int
    offers_passed: int
    bytes_passed: int
    bytes_per_s: float
    bytes_left: float
    refused: dict[RefusalCode, int]


@dataclass(frozen=True, slots=True)
class _Registration:
    endpoint: Endpoint
    host: bytes
    expires_at: float


class _TokenBucket:
    """Lets through `rate` a second on average and `burst` at once."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, *, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def left(self, now: float) -> float:
        """What is there now; below 0 when more was taken than there was."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return self._tokens

    def take(self, amount: float = 1.0) -> None:
        self._tokens -= amount


@dataclass(frozen=True, slots=True)
class _Source:
    """What one customer of a provider may have passed on."""

    offers: _TokenBucket
    bytes: _TokenBucket


class IntroducerDesk:
    """What one node does for the introductions of others."""

    def __init__(self, config: IntroducerConfig | None = None) -> None:
        self._config = config or IntroducerConfig()
        self._registrations: dict[bytes, _Registration] = {}
        self._hosts: Counter[bytes] = Counter()
        self._sources: OrderedDict[bytes, _Source] = OrderedDict()
        limits = self._config
        self._total = _TokenBucket(
            rate=limits.total_offers_per_s, burst=limits.total_burst, now=0.0
        )
        self._bytes = _TokenBucket(
            rate=limits.bytes_per_s, burst=limits.bytes_burst, now=0.0
        )
        self._renewals = _TokenBucket(
            rate=limits.registrations_per_s, burst=limits.registrations_burst, now=0.0
        )
        self._refused: Counter[RefusalCode] = Counter()
        self._offers_passed = 0
        self._bytes_passed = 0
        self._now = 0.0
        self._swept_at = 0.0

    def register(
        self,
        handle: bytes,
        endpoint: Endpoint,
        lifetime_s: float,
        now: float,
        *,
        seen_at: Endpoint | None = None,
    ) -> float:
        """Note where the holder of a handle is reached; renews and moves, too.

        Args:
            handle: Opaque; that the registrant holds it was checked before.
            endpoint: Where offers for it go, proven by a token.
            lifetime_s: How long it wants to be kept.
            now: Monotonic seconds.
            seen_at: Whose share of the limits it takes, where that is not `endpoint`.

        Returns:
            For how many seconds it is kept.

        Raises:
            IntroductionRefused: BUSY when this node or that host has too many, or this
                node has so much to pass on that leaves do better elsewhere.
        """
        self._advance(now)
        self._sweep_registrations()
        if self._renewals.left(now) < 1.0:
            self._refuse(RefusalCode.BUSY, "too many registrations at once")
        self._renewals.take()
        if lifetime_s > 0 and self._bytes.left(now) < _SHORT * self._config.bytes_burst:
            # Those who are told so move: their callers find a node that has time.
            self._refuse(RefusalCode.BUSY, "too much to pass on")
        held = self._registrations.get(handle)
        if held is None and len(self._registrations) >= self._config.max_registrations:
            self._refuse(RefusalCode.BUSY, "no room for another registration")
        host = site_of((seen_at or endpoint).host)
        same_host = held is not None and held.host == host
        if (
            not same_host
            and self._hosts[host] >= self._config.max_registrations_per_host
        ):
            self._refuse(RefusalCode.BUSY, "too many registrations of one host")
        self.unregister(handle)
        granted_s = min(max(lifetime_s, 0.0), self._config.max_lifetime_s)
        self._registrations[handle] = _Registration(endpoint, host, now + granted_s)
        self._hosts[host] += 1
        return granted_s

    def unregister(self, handle: bytes) -> None:
        """Forget a handle; unknown ones are fine."""
        registration = self._registrations.pop(handle, None)
        if registration is None:
            return
        host = registration.host
        self._hosts[host] -= 1
        if self._hosts[host] == 0:
            del self._hosts[host]

    def holds(self, handle: bytes) -> bool:
        """Whether somebody is registered under this handle."""
        return handle in self._registrations

    def route(
        self, handle: bytes, source: Endpoint, now: float, *, sealed_size: int = 0
    ) -> Endpoint:
        """Say where an offer goes.

        Args:
            handle: Whom it is for.
            source: Who sent it, proven by a token.
            now: Monotonic seconds.
            sealed_size: Bytes of the sealed offer.

        Raises:
            IntroductionRefused: BUSY: the source or everybody together sends too
                many. UNKNOWN_TARGET: nobody is registered under the handle.
                MALFORMED: the offer is too long.
        """
        self._advance(now)
        if sealed_size > MAX_PART:
            self._refuse(
                RefusalCode.MALFORMED,
                f"offer: found {sealed_size} bytes, expected at most {MAX_PART}",
            )
        # Unknown targets cost a token as well: handles must not be guessed for free.
        self._spend(source)
        registration = self._registrations.get(handle)
        if registration is None or registration.expires_at <= now:
            self._refuse(RefusalCode.UNKNOWN_TARGET, "")
        self._offers_passed += 1
        self._charge(source, sealed_size)
        return registration.endpoint

    def answered(self, source: Endpoint, now: float, *, sealed_size: int) -> None:
        """Charge the answer that went back to the source of an offer."""
        self._advance(now)
        self._charge(source, sealed_size)

    def statistics(self) -> IntroducerStatistics:
        """Return the counters."""
        return IntroducerStatistics(
            registrations=len(self._registrations),
            sources=len(self._sources),
            offers_passed=self._offers_passed,
            bytes_passed=self._bytes_passed,
            bytes_per_s=self._config.bytes_per_s,
            bytes_left=self._bytes.left(self._now),
            refused=dict(self._refused),
        )

    def _advance(self, now: float) -> None:
        assert now >= self._now, f"now went back from {self._now} to {now}"
        self._now = now

    def _sweep_registrations(self) -> None:
        if self._now < self._swept_at + _SWEEP_INTERVAL_S:
            return
        self._swept_at = self._now
        expired = [
            handle
            for handle, registration in self._registrations.items()
            if registration.expires_at <= self._now
        ]
        for handle in expired:
            self.unregister(handle)

    def spend(self, source: Endpoint, now: float) -> None:
        """Charge an offer that goes no further than here.

        Raises:
            IntroductionRefused: BUSY, as in `route`.
        """
        self._advance(now)
        self._spend(source)

    def _spend(self, source: Endpoint) -> None:
        own = self._source(source)
        now = self._now
        if own.offers.left(now) < 1.0 or own.bytes.left(now) <= 0.0:
            self._refuse(RefusalCode.BUSY, "too many offers from this address")
        if self._total.left(now) < 1.0 or self._bytes.left(now) <= 0.0:
            self._refuse(RefusalCode.BUSY, "too many offers from everybody")
        own.offers.take()
        self._total.take()

    def _charge(self, source: Endpoint, sealed_size: int) -> None:
        size = sealed_size + _HEADERS
        self._bytes_passed += size
        if not is_public(source.host):
            # No stranger: in a private network the node's owner let it in.
            return
        self._bytes.take(size)
        self._source(source).bytes.take(size)

    def _source(self, endpoint: Endpoint) -> _Source:
        key = site_of(endpoint.host)
        known = self._sources.get(key)
        if known is not None:
            self._sources.move_to_end(key)
            return known
        limits, now = self._config, self._now
        share = limits.source_share
        known = self._sources[key] = _Source(
            _TokenBucket(rate=limits.offers_per_s, burst=limits.offers_burst, now=now),
            _TokenBucket(
                rate=limits.bytes_per_s * share,
                burst=limits.bytes_burst * share,
                now=now,
            ),
        )
        if len(self._sources) > limits.max_sources:
            self._sources.popitem(last=False)
        return known

    def _refuse(self, code: RefusalCode, why: str) -> NoReturn:
        self._refused[code] += 1
        raise IntroductionRefused(code, why)
