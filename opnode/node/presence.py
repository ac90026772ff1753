"""Being found: the node's introducers, its registration with them, its presence record.

Owns who introduces us and that the published presence names exactly those. Refuses to
know lookups and connections.
"""

import contextlib
import itertools
import logging
import math
from dataclasses import dataclass
from typing import Final

import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import NetworkError
from opnode.core.ids import Contact, peer_key
from opnode.core.peerfile import (
    Identity,
    IntroducerEntry,
    Location,
    build_peer_file,
    build_presence,
)
from opnode.core.records import SignedRecord
from opnode.core.withdrawals import withdraw
from opnode.drivers.clock import WallClock
from opnode.drivers.dht.dht import Dht
from opnode.drivers.introductions import Introductions
from opnode.node.network_watch import NetworkChange
from opnode.protocols.rpc.messages import handle_of

logger = logging.getLogger(__name__)

INTRODUCERS: Final = 3
"""Two may vanish at once before anybody notices."""

PRESENCE_HOLDERS: Final = 8
"""Holders of a presence: it is renewed every twelve minutes by its owner, so fewer
copies than those of a record that has to outlive its owner are enough."""

RENEW_AT: Final = 0.6
"""Share of its lifetime after which a presence is renewed."""

LOOK_EVERY_S: Final = 3600.0
"""Nodes come and go slowly next to a presence: holders are looked up anew hourly."""

RETRY_S: Final = 2.0
"""How soon a node without any introducer, or whose publishing failed, tries again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceConfig:
    """Seconds: of a presence, of a registration, in which a NAT has to see a packet."""

    presence_lifetime_s: int
    registration_lifetime_s: int
    nat_keepalive_s: float


class PresenceKeeper:
    """Keeps the node's introducers and publishes who they are."""

    def __init__(
        self,
        *,
        identity: Identity,
        location: Location,
        dht: Dht,
        introductions: Introductions,
        wall_clock: WallClock,
        config: PresenceConfig,
    ) -> None:
        self.own_endpoint = _unknown
        self.is_behind_nat = _open
        self.published = trio.Event()
        self._identity = identity
        self._location = location
        self._dht = dht
        self._introductions = introductions
        self._wall_clock = wall_clock
        self._config = config
        self._registered: dict[Contact, IntroducerEntry] = {}
        self._entries: tuple[IntroducerEntry, ...] = ()
        self._publish_at = -1.0
        self._sequence = 0
        self._peer_file_held = False
        self._is_reported = False
        self._record: SignedRecord | None = None
        self._has_left = False
        self._closest: list[Contact] = []
        self._holders: list[Contact] = []
        self._is_one_silent = False
        self._missed: list[Contact] = []
        self._look_at = 0.0
        self._looked_at = -math.inf
        self._moved = trio.Event()

    def network_changed(self, change: NetworkChange) -> None:
        """Register anew at once: nobody may know where we are."""
        logger.debug("registering anew: %s", change.value)
        self._moved.set()

    def adopt(self, location: Location) -> None:
        """Publish under a renewed certificate from the next time on."""
        self._location = location

    @property
    def introducers(self) -> tuple[IntroducerEntry, ...]:
        """Whom the published presence names."""
        return self._entries

    async def run(self) -> None:
        """Register, publish and refresh until cancelled or withdrawn."""
        while not self._has_left:
            if not self._peer_file_held:
                self._peer_file_held = await self._publish_peer_file()
            entries = await self._refresh_introducers()
            now = trio.current_time()
            is_due = entries != self._entries or now >= self._publish_at
            if entries and is_due and not self._has_left:
                await self._publish(entries)
            if not entries or entries != self._entries:
                await trio.sleep(RETRY_S)
                continue
            await self._rest()

    async def withdraw(self) -> None:
        """Tell holders and introducers that we are gone. The caller bounds the time.

        The holders of the presence are asked first, by which most callers learn it;
        then it is looked up who else may hold a copy.
        """
        self._has_left = True
        published = self._record
        async with trio.open_nursery() as nursery:
            for contact in list(self._registered):
                nursery.start_soon(self._unregister, contact)
            if published is None:
                return
            signing = self._location.signing
            seq = self._next_sequence(self._wall_clock())
            gone = withdraw(published, signing, seq)
            self._dht.hold_if_close(gone, self._holders)
            await self._dht.put_at(gone, self._holders)
            with contextlib.suppress(NetworkError):
                await self._dht.put(gone)

    async def _unregister(self, contact: Contact) -> None:
        with contextlib.suppress(NetworkError):
            await self._introductions.register(contact, self._location.signing, 0)

    async def _refresh_introducers(self) -> tuple[IntroducerEntry, ...]:
        own = self.own_endpoint()
        if own is not None:
            entry = self._introductions.serve_own(self._location.signing.public)
            await trio.lowlevel.checkpoint()
            return (
                IntroducerEntry(
                    node_id=entry.node_id, endpoint=own, handle=entry.handle
                ),
            )
        async with trio.open_nursery() as nursery:
            for contact in list(self._registered):
                nursery.start_soon(self._register, contact)
            if self._is_one_silent:
                # When it is gone, others are needed; when most are, at once.
                nursery.start_soon(self._look_around)
        if len(self._registered) < INTRODUCERS:
            if not self._is_one_silent:
                await self._look_around()
            await self._find_introducers()
        self._is_one_silent = False
        kept = sorted(self._registered.items(), key=lambda item: item[0].node_id)
        return tuple(entry for _, entry in kept[:INTRODUCERS])

    async def _find_introducers(self) -> None:
        """Ask the servers nearest to our presence until three have agreed."""
        candidates = [c for c in self._closest if c not in self._registered]
        while candidates and len(self._registered) < INTRODUCERS:
            missing = INTRODUCERS - len(self._registered)
            asked, candidates = candidates[:missing], candidates[missing:]
            async with trio.open_nursery() as nursery:
                for contact in asked:
                    nursery.start_soon(self._register, contact)

    async def _register(self, contact: Contact) -> None:
        signing = self._location.signing
        lifetime_s = self._config.registration_lifetime_s
        try:
            await self._introductions.register(contact, signing, lifetime_s)
        except NetworkError as error:
            logger.info("introducer %s: %s", contact.endpoint, error)
            self._registered.pop(contact, None)
            return
        self._registered[contact] = IntroducerEntry(
            node_id=contact.node_id,
            endpoint=contact.endpoint,
            handle=handle_of(signing.public),
        )

    async def _publish(self, entries: tuple[IntroducerEntry, ...]) -> None:
        wall_now = self._wall_clock()
        lifetime_s = self._config.presence_lifetime_s
        record = build_presence(
            self._location,
            entries,
            wall_now=wall_now,
            lifetime_s=lifetime_s,
            seq=self._next_sequence(wall_now),
        )
        # Kept before it is put: what is under way when we stop is withdrawn, too.
        self._record = record
        if await self._put_presence(record):
            self._entries = entries
            self._publish_at = trio.current_time() + lifetime_s * RENEW_AT
            self.published.set()
            self._is_reported = False
            await self._put_where_missed(record)

    def _next_sequence(self, wall_now: float) -> int:
        # Milliseconds, so that a restart within a second still counts upwards.
        self._sequence = max(self._sequence + 1, int(wall_now * 1000))
        return self._sequence

    async def _put_presence(self, record: SignedRecord) -> bool:
        """Renew at the holders of last time; look for the closest now and then."""
        few = PRESENCE_HOLDERS // 2
        now = trio.current_time()
        is_look_due = now >= self._look_at or len(self._holders) < few
        # The round that this put belongs to may have looked already.
        is_look_due = is_look_due and now - self._looked_at > RETRY_S
        if is_look_due:
            await self._look_around()
        is_held = await self._put_at_holders(record)
        is_fresh = trio.current_time() - self._looked_at <= RETRY_S
        if not is_fresh and len(self._holders) < few:
            # Most of them died since the last time, so readers look elsewhere, too.
            await self._look_around()
            is_held = await self._put_at_holders(record) or is_held
        if not is_held:
            self._report("no node would hold the presence")
        return is_held

    async def _look_around(self) -> None:
        """Find the nodes nearest to our presence: holders and introducers."""
        key = peer_key(self._identity.peer_id)
        self._closest = await self._dht.closest_nodes(key)
        self._holders = self._closest[:PRESENCE_HOLDERS]
        self._looked_at = trio.current_time()
        self._look_at = self._looked_at + LOOK_EVERY_S

    async def _put_at_holders(self, record: SignedRecord) -> bool:
        is_held_here = self._dht.hold_if_close(record, self._holders)
        asked = self._holders
        self._holders = await self._dht.put_at(record, asked)
        self._missed = [holder for holder in asked if holder not in self._holders]
        return bool(self._holders) or is_held_here

    async def _put_where_missed(self, record: SignedRecord) -> None:
        """Ask silent holders once more: readers may know only those."""
        missed, self._missed = self._missed, []
        if missed:
            self._holders += await self._dht.put_at(record, missed)

    async def _publish_peer_file(self) -> bool:
        wall_now = self._wall_clock()
        record = build_peer_file(self._identity, wall_now=wall_now, seq=int(wall_now))
        return await self._put(record, republish=True)

    async def _put(self, record: SignedRecord, *, republish: bool = False) -> bool:
        try:
            holders = await self._dht.put(record, republish=republish)
        except NetworkError as error:
            self._report(str(error))
            return False
        if not holders:
            self._report("no node would hold the record")
        return holders > 0

    def _report(self, problem: str) -> None:
        """Warn once; it is tried every few seconds until it works."""
        level = logging.DEBUG if self._is_reported else logging.WARNING
        self._is_reported = True
        logger.log(level, "publishing: %s; trying again", problem)

    async def _rest(self) -> None:
        """Wait until the registrations are due again, or somebody moved or is gone.

        Behind a NAT each introducer is asked as often as the mapping needs it, in turn:
        one exchange of 120 bytes in eight seconds. Elsewhere friends reach us without
        introducers, so a third of that has to do. When most nodes vanish at once, the
        first silent one tells: then all are registered with anew, the dead replaced.
        """
        due_at = trio.current_time() + self._config.registration_lifetime_s / 2
        turns = itertools.count()
        own = self.own_endpoint()
        while (left_s := due_at - trio.current_time()) > 0:
            pause_s = self._config.nat_keepalive_s
            if self.is_behind_nat():
                pause_s /= INTRODUCERS
            with trio.move_on_after(min(pause_s, left_s)):
                await self._moved.wait()
                self._moved = trio.Event()
                return
            if self.own_endpoint() != own:
                # A server is its own introducer, a leaf is not: callers must know.
                return
            asked = list(self._registered)
            if asked and left_s > pause_s:
                introducer = asked[next(turns) % len(asked)]
                if not await self._introductions.is_registered(introducer):
                    self._is_one_silent = True
                    return


def _unknown() -> Endpoint | None:
    return None


def _open() -> bool:
    return False
