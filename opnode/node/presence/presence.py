"""Being found: that the published presence names exactly those who introduce us.

Owns when introducers are looked for, kept and published anew. Refuses to know how an
introducer is asked, how a record is put, lookups and connections.
"""

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from opnode.core.addresses import Endpoint
from opnode.core.ids import Contact
from opnode.core.peerfile import IntroducerEntry, Location
from opnode.drivers.introductions import Introductions
from opnode.node.network_watch import NetworkChange
from opnode.node.presence.introducers import (
    INTRODUCERS,
    Introducers,
    IntroducersStatistics,
)
from opnode.node.presence.publishing import PresencePublisher

logger = logging.getLogger(__name__)

RENEW_AT: Final = 0.8
"""Share of its lifetime after which a presence is renewed: four minutes are left for
trying again, and for clocks that are off by two (``CheckupConfig.clock_s``). Each
renewal is eight mappings of a NAT and 4.9 kB."""

SEARCH_EVERY_S: Final = 150.0
"""How often a node with fewer than three introducers looks for more."""

LOOK_S: Final = 8.0
"""How soon it is noticed that the node became a server, or a leaf again."""

RETRY_S: Final = 2.0
"""How soon a node without any introducer, or whose publishing failed, tries again."""

RETRY_CAP_S: Final = 30.0
"""... at most, when it failed again and again: the pause doubles each time, and chance
decides how much of it is waited (full jitter), as thousands may try at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceConfig:
    """Seconds that a presence is valid."""

    presence_lifetime_s: int


class PresenceKeeper:
    """Keeps the node's introducers and publishes who they are.

    Attributes:
        own_endpoint: where we introduce ourselves, as a server does; None for others.
        others: nodes to ask besides the nearest to our presence, when too few agree.
        published: set once others can find us.
    """

    def __init__(
        self,
        *,
        location: Location,
        publisher: PresencePublisher,
        introducers: Introducers,
        introductions: Introductions,
        rng: random.Random,
        config: PresenceConfig,
    ) -> None:
        self.own_endpoint: Callable[[], Endpoint | None] = _unknown
        self.others: Callable[[], Sequence[Contact]] = _nobody
        self.gateways: Callable[[], Sequence[Contact]] = _nobody
        self.published = trio.Event()
        self._location = location
        self._publisher = publisher
        self._introducers = introducers
        self._introductions = introductions
        self._rng = rng
        self._config = config
        self._entries: tuple[IntroducerEntry, ...] = ()
        self._publish_at = -1.0
        self._has_left = False
        self._is_one_silent = False
        self._is_calm = False
        self._changed = trio.Event()
        self._failures = 0

    def network_changed(self, change: NetworkChange) -> None:
        """Register anew at once: nobody may know where we are."""
        if change is NetworkChange.ADDRESSES:
            self._introducers.moved()
        if change is NetworkChange.RESUMED:
            # It expires by the calendar, which went on meanwhile.
            self._publish_at = -1.0
        self._failures = 0
        self._changed.set()

    def adopt(self, location: Location) -> None:
        """Publish under a renewed certificate from the next time on."""
        self._location = location
        self._publisher.adopt(location)
        self._introducers.adopt(location.signing)

    @property
    def introducers(self) -> tuple[IntroducerEntry, ...]:
        """Whom the published presence names."""
        return self._entries

    def statistics(self) -> IntroducersStatistics:
        """Who introduces us, and how well."""
        return self._introducers.statistics()

    def silence_s(self) -> float:
        """For how long whoever may write to us can be left in silence."""
        return self._introducers.silence_s

    def watch_filter(self, is_filtered: Callable[[], bool]) -> None:
        """Keep mappings open as long as ``is_filtered`` says that there are some."""
        self._introducers.is_filtered = is_filtered

    async def run(self) -> None:
        """Register, publish and refresh until cancelled or withdrawn."""
        while not self._has_left:
            if not self._publisher.is_peer_file_held:
                await self._publisher.publish_peer_file()
            entries = await self._refresh()
            is_due = entries != self._entries or self._is_publishing_due()
            if entries and is_due and not self._has_left:
                await self._publish(entries)
            if entries and entries == self._entries:
                self._failures = 0
                await self._rest()
            else:
                await self._wait_retry()

    async def withdraw(self) -> None:
        """Tell holders and introducers that we are gone. The caller bounds the time."""
        self._has_left = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._introducers.leave)
            nursery.start_soon(self._publisher.withdraw)

    async def _refresh(self) -> tuple[IntroducerEntry, ...]:
        own = self._own()
        if own is not None:
            entry = self._introductions.serve_own(self._location.signing.public)
            await trio.lowlevel.checkpoint()
            return (
                IntroducerEntry(
                    node_id=entry.node_id, endpoint=own, handle=entry.handle
                ),
            )
        introducers = self._introducers
        gateways = self.gateways()
        introducers.restrict(gateways)
        async with trio.open_nursery() as nursery:
            if not self._is_calm:
                nursery.start_soon(introducers.register_again)
            if self._is_one_silent:
                # When it is gone, others are needed; when most are, at once.
                nursery.start_soon(self._publisher.look_around)
        if gateways:
            await introducers.fill(gateways)
        elif len(introducers) < INTRODUCERS:
            await self._publisher.look_around()
            await introducers.fill([*self._publisher.closest, *self.others()])
        self._is_one_silent = self._is_calm = False
        return introducers.entries

    def _own(self) -> Endpoint | None:
        """Where we introduce ourselves: nowhere while no UDP gets to us."""
        return None if self.gateways() else self.own_endpoint()

    async def _publish(self, entries: tuple[IntroducerEntry, ...]) -> None:
        if await self._publisher.publish(entries):
            self._entries = entries
            lifetime_s = self._config.presence_lifetime_s
            self._publish_at = trio.current_time() + lifetime_s * RENEW_AT
            self.published.set()

    def _is_publishing_due(self) -> bool:
        return trio.current_time() >= self._publish_at

    async def _wait_retry(self) -> None:
        """Full jitter, but never longer than it takes until something changes."""
        longest_s = min(RETRY_S * 2**self._failures, RETRY_CAP_S)
        self._failures = min(self._failures + 1, 16)
        with trio.move_on_after(self._rng.uniform(longest_s / 10, longest_s)):
            await self._changed.wait()
            self._changed = trio.Event()

    async def _rest(self) -> None:
        """Keep the introducers until one is lost, we moved, or something is due.

        They are written to in turn, so when most nodes vanish at once, the first silent
        one tells: then all are registered with anew, the dead replaced.
        """
        own = self._own()
        ends_at = self._publish_at
        if own is None and len(self._introducers) < INTRODUCERS:
            ends_at = min(ends_at, trio.current_time() + SEARCH_EVERY_S)
        while trio.current_time() < ends_at:
            turn_at = trio.current_time() + self._introducers.pause_s
            if await self._is_disturbed(min(turn_at, ends_at), own):
                return
            if own is not None:
                continue
            if not await self._introducers.keep_next():
                self._is_one_silent = True
                return
            # Then all were heard in their turn, and only the presence is to be renewed.
            self._is_calm = self._is_publishing_due()

    async def _is_disturbed(self, until: float, own: Endpoint | None) -> bool:
        """Sleep; whether we moved meanwhile, or became a server, or a leaf again.

        A server is its own introducer, a leaf is not: callers must know.
        """
        while (now := trio.current_time()) < until:
            with trio.CancelScope(deadline=min(until, now + LOOK_S)):
                await self._changed.wait()
                self._changed = trio.Event()
                return True
            if self._own() != own:
                return True
        await trio.lowlevel.checkpoint()
        return False


def _unknown() -> Endpoint | None:
    return None


def _nobody() -> Sequence[Contact]:
    return ()
