"""What a node's own asking may cost the router in front of it: packets and mappings.

Owns the two meters and when background work has to wait. Refuses to know what is asked;
people's requests are counted and never held back here.
"""

from dataclasses import dataclass
from typing import Final

from opnode.core.addresses import Endpoint, is_public

_MINUTE_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetConfig:
    """The stated budget. Only requests to public addresses count.

    A private address takes no NAT mapping, and loopback takes no wire.

    Attributes:
        packets_per_s: requests and repetitions, on average. 50 packets of 100 bytes
            are 5 kB/s: 4 % of a 1 Mbit/s uplink.
        packets_burst: at once above the average; twenty puts.
        endpoints_per_min: new remote endpoints, on average. A mapping lives for two
            minutes (RFC 4787 REQ-5), so these keep 120 alive at a time.
        endpoints_burst: at once above the average; six lookups among strangers. With
            the average 360 mappings: CGNATs are met that grant a subscriber 512 ports,
            for everything in the household, and old home routers hold 1 024 in all.
        forget_s: an endpoint is new when it was not asked for this long; two to four
            minutes, as half of what is remembered is forgotten at a time.
        background: the share of a burst that work without a waiting person may use;
            the rest is there when somebody comes and looks something up.
        strangers: the share that checks of strangers who asked us may use: less, or a
            flood of them would end the checks of the contacts that we have.
        remembered: endpoints, in each half. Beyond it they count as known.
    """

    packets_per_s: float = 50.0
    packets_burst: float = 1000.0
    endpoints_per_min: float = 60.0
    endpoints_burst: float = 240.0
    forget_s: float = 120.0
    background: float = 0.5
    strangers: float = 0.25
    remembered: int = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetView:
    """The budget and what was used of it.

    Attributes:
        packets_per_s: the budget.
        packets_per_s_used: in the last minute, on average.
        endpoints_per_min: the budget.
        endpoints_per_min_used: new ones in the last minute.
        is_short: background work waits.
        is_spent: people have used up more than the burst of new endpoints.
        waits: how often background work found no room.
    """

    packets_per_s: float
    packets_per_s_used: float
    endpoints_per_min: float
    endpoints_per_min_used: float
    is_short: bool
    is_spent: bool
    waits: int


class _Meter:
    """A token bucket that may be overdrawn, and what went through in a minute."""

    __slots__ = ("_before", "_burst_s", "_cost_s", "_full_at", "_now", "_turns_at")

    def __init__(self, per_s: float, burst: float) -> None:
        self._cost_s = 1.0 / per_s
        self._burst_s = burst / per_s
        # When the bucket is full again: one number, as in `limits.Buckets`.
        self._full_at = 0.0
        self._turns_at = 0.0
        self._now = self._before = 0

    def take(self, now: float) -> None:
        """Count one."""
        if now >= self._turns_at:
            self._turn(now)
        self._now += 1
        full_at = self._full_at
        # Overdrawn by a burst at most, so that a storm is not paid for all day.
        if full_at - now < 2 * self._burst_s:
            self._full_at = (full_at if full_at > now else now) + self._cost_s

    def room_at(self, share: float) -> float:
        """From when on less than this share of the burst is in use."""
        return self._full_at - share * self._burst_s

    def last_minute(self, now: float) -> float:
        """How many in the last minute; the minute before counts by what overlaps."""
        if now >= self._turns_at:
            self._turn(now)
        overlap = (self._turns_at - now) / _MINUTE_S
        return self._now + self._before * overlap

    def _turn(self, now: float) -> None:
        is_next = now < self._turns_at + _MINUTE_S
        self._before = self._now if is_next else 0
        self._now = 0
        self._turns_at = (self._turns_at if is_next else now) + _MINUTE_S


class Budget:
    """What our own asking has cost. Counting a request takes 0.5 µs."""

    def __init__(self, config: BudgetConfig) -> None:
        self._config = config
        self._packets = _Meter(config.packets_per_s, config.packets_burst)
        per_s = config.endpoints_per_min / _MINUTE_S
        self._endpoints = _Meter(per_s, config.endpoints_burst)
        self._known: set[Endpoint] = set()
        self._known_before: set[Endpoint] = set()
        self._forgets_at = 0.0
        self._waits = 0

    def spend(self, destination: Endpoint, now: float) -> None:
        """Count a packet to this endpoint."""
        if not is_public(destination.host):
            return
        self._packets.take(now)
        known = self._known
        if now >= self._forgets_at:
            is_next = now < self._forgets_at + self._config.forget_s
            self._known_before = known if is_next else set()
            self._known = known = set()
            self._forgets_at = now + self._config.forget_s
        if destination in known:
            return
        is_new = destination not in self._known_before
        if len(known) < self._config.remembered:
            known.add(destination)
            if is_new:
                self._endpoints.take(now)

    def room_at(self) -> float:
        """From when on background work may ask."""
        return self._room_at(self._config.background)

    def has_room(self, now: float) -> bool:
        """Whether background work may ask now; counts when not."""
        has_room = self.room_at() <= now
        self._waits += not has_room
        return has_room

    def has_room_for_strangers(self, now: float) -> bool:
        """Whether somebody who asked us may be asked back, to get to know it."""
        return self._room_at(self._config.strangers) <= now

    def is_spent(self, now: float) -> bool:
        """Whether people used up the new endpoints: time to let others look up."""
        return self._endpoints.room_at(1.0) > now

    def view(self, now: float) -> BudgetView:
        """The budget and what is used of it."""
        return BudgetView(
            packets_per_s=self._config.packets_per_s,
            packets_per_s_used=self._packets.last_minute(now) / _MINUTE_S,
            endpoints_per_min=self._config.endpoints_per_min,
            endpoints_per_min_used=self._endpoints.last_minute(now),
            is_short=self.room_at() > now,
            is_spent=self.is_spent(now),
            waits=self._waits,
        )

    def _room_at(self, share: float) -> float:
        return max(self._packets.room_at(share), self._endpoints.room_at(share))
