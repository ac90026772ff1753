"""Care for the records of others that this node holds: who else should have them.

Owns when a held record is given to a newcomer and when it is put again, at a bounded
pace. Refuses to know how a record is put, and what it means. Records so outlive their
holders while their owner is away (Kademlia §2.5).
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import trio

from opnode.core.ids import Contact, StorageKey, distance
from opnode.core.records import RecordKind, SignedRecord
from opnode.drivers.clock import WallClock
from opnode.drivers.dht.config import HoldingsConfig
from opnode.drivers.dht.contacts import Contacts
from opnode.drivers.dht.puts import Writer
from opnode.drivers.rpc.rpc import Rpc
from opnode.drivers.store import RecordStore

_STORE_OVERHEAD = 160
"""Bytes of a STORE and its answer besides the record: headers, token, addresses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldingsStatistics:
    """Counters since the start.

    Attributes:
        given: records that newcomers took.
        put_again: bags that nobody else put in time.
        bytes: what both cost, about.
    """

    given: int
    put_again: int
    bytes: int


@dataclass(slots=True)
class _Sighting:
    """When a bag was last put here, by anybody and by ourselves."""

    by_anybody_at: float
    by_us_at: float


class Holdings:
    """Gives held records to newcomers and puts them again when nobody else did."""

    def __init__(  # noqa: PLR0913 - the parts of one node that it works with
        self,
        rpc: Rpc,
        contacts: Contacts,
        writer: Writer,
        store: RecordStore,
        *,
        wall_clock: WallClock,
        rng: random.Random,
        config: HoldingsConfig,
        k: int,
    ) -> None:
        """Work for a node with this ``rpc``; ``k`` nodes hold each record."""
        self._rpc = rpc
        self._contacts = contacts
        self._writer = writer
        self._store = store
        self._wall_clock = wall_clock
        self._rng = rng
        self._config = config
        self._k = k
        self._neighbours: list[Contact] = []
        self._left: dict[bytes, float] = {}
        self._seen: dict[bytes, _Sighting] = {}
        self._cursor = b""
        self._started_at = 0.0
        self._settled_at = 0.0
        self._free_bytes = config.burst_bytes
        self._spent_at = 0.0
        self._given = 0
        self._put_again = 0
        self._bytes = 0

    def seen(self, key: bytes) -> None:
        """Somebody stored a record here, so it was most likely put at all holders."""
        now = trio.current_time()
        # Those put last stand last: of bags that went again, the first are forgotten.
        sighting = self._seen.pop(key, None) or _Sighting(now, now)
        sighting.by_anybody_at = now
        self._seen[key] = sighting
        if len(self._seen) > self._config.max_seen:
            del self._seen[next(iter(self._seen))]

    def statistics(self) -> HoldingsStatistics:
        """Read the counters."""
        return HoldingsStatistics(
            given=self._given, put_again=self._put_again, bytes=self._bytes
        )

    async def run(self) -> None:
        """Look around every few seconds, until cancelled."""
        config = self._config
        self._started_at = self._spent_at = trio.current_time()
        is_back = self._store.statistics().records > 0
        # Whoever is met at first was there before us.
        settle_s = config.settle_s if is_back else 1.5 * config.tick_s
        self._settled_at = self._started_at + settle_s
        while True:
            await trio.sleep(config.tick_s * self._rng.uniform(0.5, 1.5))
            # A leaf holds nothing for others.
            if self._rpc.leaf:
                continue
            for newcomer in self._look_around():
                # A newcomer that answers slowly must not hold up the care for others.
                with trio.move_on_after(self._config.give_s):
                    await self._give(newcomer)
            for key in self._due():
                await self._put(key)

    async def leave(self) -> None:
        """Give what we hold to whoever takes our place. The caller bounds the time.

        The nearest records first: of those we are the surest holder.
        """
        if self._rpc.leaf:
            return
        limiter = trio.CapacityLimiter(self._config.leaving_at_once)
        async with trio.open_nursery() as nursery:
            for key in self._store.keys_around(self._config.leaving_keys):
                heir = self._heir(key)
                if heir is not None:
                    await limiter.acquire_on_behalf_of(key)
                    nursery.start_soon(self._bequeath, key, heir, limiter)

    async def _bequeath(
        self, key: StorageKey, heir: Contact, limiter: trio.CapacityLimiter
    ) -> None:
        try:
            for record in self._store.records(key, self._wall_clock()):
                await self._writer.put_at(record, [heir])
        finally:
            limiter.release_on_behalf_of(key)

    def _heir(self, key: bytes) -> Contact | None:
        """Who will be among the k closest once we are not; None if nobody is new."""
        nearest = self._contacts.table.nearest(key, self._k, reliable=True)
        if len(nearest) < self._k or not self._is_nearer(key, nearest[-1]):
            return None
        return nearest[-1]

    def _others(self, key: bytes) -> list[Contact]:
        """Of the k closest nodes to a key those that are not ourselves."""
        nearest = self._contacts.table.nearest(key, self._k, reliable=True)
        if len(nearest) == self._k and self._is_nearer(key, nearest[-1]):
            return nearest[:-1]
        return nearest

    def _is_nearer(self, key: bytes, contact: Contact) -> bool:
        return distance(self._rpc.node_id, key) < distance(contact.node_id, key)

    def _look_around(self) -> list[Contact]:
        """Neighbours of ours that were not there a moment ago."""
        config = self._config
        found = self._contacts.table.nearest(
            self._rpc.node_id, config.neighbours, reliable=True
        )
        if found == self._neighbours:
            return []
        now = trio.current_time()
        before = {contact.node_id for contact in self._neighbours}
        after = {contact.node_id for contact in found}
        self._neighbours = found
        newcomers = [
            contact
            for contact in found
            if contact.node_id not in before and not self._is_back(contact, now)
        ]
        for node_id in before - after:
            self._left[node_id] = now
        while len(self._left) > config.max_known:
            del self._left[next(iter(self._left))]
        return newcomers if now >= self._settled_at else []

    def _is_back(self, contact: Contact, now: float) -> bool:
        left_at = self._left.pop(contact.node_id, None)
        return left_at is not None and now - left_at <= self._config.forget_s

    async def _give(self, newcomer: Contact) -> None:
        """Give a newcomer the records that it should hold and that are ours to give."""
        others = [
            _place(contact.node_id)
            for contact in self._neighbours
            if contact.node_id != newcomer.node_id
        ]
        refused = 0
        cursor = b""
        while keys := self._store.keys_after(cursor, self._config.keys_per_step):
            cursor = keys[-1]
            for key in keys:
                if not self._is_ours_to_give(key, newcomer, others):
                    continue
                for record in self._store.records(key, self._wall_clock()):
                    refused = 0 if await self._gave(record, newcomer) else refused + 1
                if refused > self._config.max_refused:
                    return
            await trio.lowlevel.checkpoint()

    async def _gave(self, record: SignedRecord, newcomer: Contact) -> bool:
        await self._spend([record], 1)
        if not await self._writer.put_at(record, [newcomer]):
            return False
        self._given += 1
        return True

    def _is_ours_to_give(
        self, key: bytes, newcomer: Contact, others: Sequence[int]
    ) -> bool:
        """Whether few are nearer to a record than we, and few than the newcomer."""
        place = _place(key)
        own = _place(self._rpc.node_id) ^ place
        if _nearer(others, place, own, self._config.givers) >= self._config.givers:
            return False
        new = _place(newcomer.node_id) ^ place
        return _nearer(others, place, new, self._k) + (own < new) < self._k

    def _due(self) -> list[StorageKey]:
        """The next few of all bags that are held, if nobody put them for long."""
        keys = self._store.keys_after(self._cursor, self._keys_per_tick())
        now = trio.current_time()
        if not keys:
            self._cursor = b""
            self._forget(now)
            return []
        self._cursor = keys[-1]
        others = [_place(contact.node_id) for contact in self._neighbours]
        return [key for key in keys if self._is_due(key, now, others)]

    def _keys_per_tick(self) -> int:
        config = self._config
        share = self._store.statistics().records * config.tick_s / config.walk_s
        return min(config.keys_per_step, 1 + int(share))

    def _is_due(self, key: bytes, now: float, others: Sequence[int]) -> bool:
        """Whether it is our turn: the nearer we are, the sooner it comes.

        So the closest live holder puts a bag again, and the others see it and wait for
        another hour. Somebody who puts it at us alone cannot make us wait for ever.
        """
        config = self._config
        place = _place(key)
        own = _place(self._rpc.node_id) ^ place
        rank = _nearer(others, place, own, self._k)
        # A few bits of both ids: the same each time it is asked, different for others.
        jitter = ((own >> 3) & 0xFF) / 256
        period_s = config.reput_s * (1 + rank / self._k / 2 + jitter / 4)
        sighting = self._seen.get(key)
        if sighting is None:
            # Before the start nothing was seen.
            return now - self._started_at >= period_s
        return (
            now - sighting.by_anybody_at >= period_s
            or now - sighting.by_us_at >= period_s * config.patience
        )

    async def _put(self, key: StorageKey) -> None:
        now = trio.current_time()
        self._seen[key] = _Sighting(now, now)
        wall_now = self._wall_clock()
        records = [
            record
            for record in self._store.records(key, wall_now)
            # Its owner renews a presence long before we would.
            if record.kind is not RecordKind.PRESENCE
        ]
        holders = self._others(key)
        if not records or not holders:
            return
        self._put_again += 1
        for record in records:
            await self._spend([record], len(holders))
            await self._writer.put_at(record, holders)

    async def _spend(self, records: Iterable[SignedRecord], copies: int) -> None:
        """Wait until the budget allows to send these."""
        size = copies * sum(len(record.wire) + _STORE_OVERHEAD for record in records)
        config = self._config
        now = trio.current_time()
        earned = (now - self._spent_at) * config.bytes_per_s
        self._free_bytes = min(config.burst_bytes, self._free_bytes + earned) - size
        self._spent_at = now
        self._bytes += size
        await trio.sleep(max(0.0, -self._free_bytes / config.bytes_per_s))
        await self._rpc.wait_room()

    def _forget(self, now: float) -> None:
        """Drop what is remembered of bags that nobody put for long."""
        oldest = now - 2 * self._config.reput_s
        self._seen = {
            key: sighting
            for key, sighting in self._seen.items()
            if sighting.by_anybody_at >= oldest
        }


def _place(identifier: bytes) -> int:
    return int.from_bytes(identifier, "big")


def _nearer(others: Sequence[int], place: int, radius: int, limit: int) -> int:
    """How many of the others are nearer to a place than that; counts to the limit."""
    count = 0
    for other in others:
        if other ^ place < radius:
            count += 1
            if count >= limit:
                break
    return count
