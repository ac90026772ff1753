"""Publishing a presence: at the nodes nearest to its key, again before it expires.

Owns the holders of our presence and its sequence numbers, and that the peer file is
published. Refuses to know who introduces us.
"""

import contextlib
import logging
import math
from collections.abc import Sequence
from typing import Final

import trio

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

logger = logging.getLogger(__name__)

PRESENCE_HOLDERS: Final = 8
"""Holders of a presence: it is renewed every sixteen minutes by its owner, so fewer
copies than those of a record that has to outlive its owner are enough."""

LOOK_EVERY_S: Final = 3600.0
"""Nodes come and go slowly next to a presence: holders are looked up anew hourly."""

FRESH_S: Final = 2.0
"""A look around so short ago need not be repeated."""


class PresencePublisher:
    """Puts our records where others look for them."""

    def __init__(
        self,
        *,
        identity: Identity,
        location: Location,
        dht: Dht,
        wall_clock: WallClock,
        lifetime_s: int,
    ) -> None:
        self._identity = identity
        self._location = location
        self._dht = dht
        self._wall_clock = wall_clock
        self._lifetime_s = lifetime_s
        self._sequence = 0
        self._is_first = True
        self._is_reported = False
        self._record: SignedRecord | None = None
        self._closest: list[Contact] = []
        self._holders: list[Contact] = []
        self._missed: list[Contact] = []
        self._look_at = 0.0
        self._looked_at = -math.inf
        self.is_peer_file_held = False

    def adopt(self, location: Location) -> None:
        """Publish under a renewed certificate from the next time on."""
        self._location = location

    @property
    def closest(self) -> Sequence[Contact]:
        """The nodes nearest to our presence, as of the last look around."""
        return self._closest

    async def look_around(self) -> None:
        """Find the nodes nearest to our presence: holders and introducers."""
        if trio.current_time() - self._looked_at <= FRESH_S and self._closest:
            await trio.lowlevel.checkpoint()
            return
        key = peer_key(self._identity.peer_id)
        has_most = len(self._holders) >= PRESENCE_HOLDERS // 2
        look = self._dht.closest_nodes_again if has_most else self._dht.closest_nodes
        self._closest = await look(key)
        self._holders = self._closest[:PRESENCE_HOLDERS]
        self._looked_at = trio.current_time()
        self._look_at = self._looked_at + LOOK_EVERY_S

    async def publish_peer_file(self) -> None:
        """Put the peer file, and have it put again from now on."""
        wall_now = self._wall_clock()
        record = build_peer_file(self._identity, wall_now=wall_now, seq=int(wall_now))
        try:
            holders = await self._dht.put(record, republish=True)
            if not holders and (seq := await self._passed_by(record)):
                record = build_peer_file(self._identity, wall_now=wall_now, seq=seq)
                holders = await self._dht.put(record, republish=True)
        except NetworkError as error:
            self._report(str(error))
            return
        if not holders:
            self._report("no node would hold the record")
        self.is_peer_file_held = holders > 0

    async def publish(self, entries: Sequence[IntroducerEntry]) -> bool:
        """Publish that these introduce us; whether somebody holds it."""
        record = self._next_record(entries)
        is_held = await self._put(record)
        if self._is_first and self._missed and (seq := await self._passed_by(record)):
            self._sequence = seq
            self._holders = self._closest[:PRESENCE_HOLDERS]
            record = self._next_record(entries)
            is_held = await self._put(record)
        self._is_first = False
        if not is_held:
            self._report("no node would hold the presence")
            return False
        self._is_reported = False
        await self._put_where_missed(record)
        return True

    async def withdraw(self) -> None:
        """Tell the holders that we are gone. The caller bounds the time.

        The holders of the presence are asked first, by which most callers learn it;
        then it is looked up who else may hold a copy.
        """
        if self._record is None:
            await trio.lowlevel.checkpoint()
            return
        seq = self._next_sequence(self._wall_clock())
        gone = withdraw(self._record, self._location.signing, seq)
        self._dht.hold_if_close(gone, self._holders)
        await self._dht.put_at(gone, self._holders)
        with contextlib.suppress(NetworkError):
            await self._dht.put(gone)

    def _next_record(self, entries: Sequence[IntroducerEntry]) -> SignedRecord:
        wall_now = self._wall_clock()
        record = build_presence(
            self._location,
            tuple(entries),
            wall_now=wall_now,
            lifetime_s=self._lifetime_s,
            seq=self._next_sequence(wall_now),
        )
        # Kept before it is put: what is under way when we stop is withdrawn, too.
        self._record = record
        return record

    async def _passed_by(self, record: SignedRecord) -> int:
        """The number after one of ours that holders prefer to this record; 0 if none.

        A clock that was ahead and was set right gives numbers that lie behind those
        of before the restart. Until these expire, nobody would believe the new ones.
        """
        held = await self._dht.highest_seq(record)
        return held + 1 if held is not None and held >= record.seq else 0

    def _next_sequence(self, wall_now: float) -> int:
        # Milliseconds, so that a restart within a second still counts upwards.
        self._sequence = max(self._sequence + 1, int(wall_now * 1000))
        return self._sequence

    async def _put(self, record: SignedRecord) -> bool:
        """Renew at the holders of last time; look for the closest now and then."""
        few = PRESENCE_HOLDERS // 2
        if trio.current_time() >= self._look_at or len(self._holders) < few:
            await self.look_around()
        is_held = await self._put_at_holders(record)
        is_fresh = trio.current_time() - self._looked_at <= FRESH_S
        if not is_fresh and len(self._holders) < few:
            # Most of them died since the last time, so readers look elsewhere, too.
            await self.look_around()
            is_held = await self._put_at_holders(record) or is_held
        return is_held

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

    def _report(self, problem: str) -> None:
        """Warn once; it is tried every few seconds until it works."""
        level = logging.DEBUG if self._is_reported else logging.WARNING
        self._is_reported = True
        logger.log(level, "publishing: %s; trying again", problem)
