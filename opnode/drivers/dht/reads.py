"""Reading records: the first that verifies, or the newest of the whole region.

Owns verification of what is found and the repair of holders that lag behind. Refuses to
know what records mean.
"""

from collections import Counter
from collections.abc import Callable, Iterable

import trio

from opnode.core.errors import RecordNotFound, RequestRefused
from opnode.core.ids import Contact, short
from opnode.core.records import RecordKind, SignedRecord, slot_of
from opnode.drivers.clock import WallClock
from opnode.drivers.dht.collection import Collection
from opnode.drivers.dht.finishing import Finishing
from opnode.drivers.dht.lookups import Lookups
from opnode.drivers.dht.search import Search
from opnode.drivers.dht.tracing import Recorder
from opnode.drivers.store import RecordStore
from opnode.protocols.lookup.lookup import Query
from opnode.protocols.lookup.trace import LookupTrace
from opnode.protocols.rpc.messages import (
    FindValue,
    Reply,
    Request,
    Store,
    Stored,
    Values,
)

Wanted = Callable[[SignedRecord], bool]
OnNewer = Callable[[SignedRecord], None]


class Reader:
    """Finds records; ``counts``: ``bad_records``, ``repaired``, ``equivocations``."""

    def __init__(
        self,
        lookups: Lookups,
        store: RecordStore,
        wall_clock: WallClock,
        finishing: Finishing,
        *,
        counts: Counter[str],
    ) -> None:
        """Read with these lookups, and what ``store`` holds first."""
        self._lookups = lookups
        self._store = store
        self._wall_clock = wall_clock
        self._counts = counts
        self._finishing = finishing

    async def find_first(
        self, key: bytes, wanted: Wanted, on_newer: OnNewer | None = None
    ) -> list[SignedRecord]:
        """Search until a verified record that is wanted is here.

        Returns the best record of every slot heard of until then. The rest of the
        region is read in the background, unless there can be nothing newer.

        Args:
            key: 20 bytes.
            wanted: which record is good enough.
            on_newer: called with every wanted record that turns up afterwards: a newer
                one, or one of another slot. Must be quick and not raise.

        Raises:
            RecordNotFound: the whole lookup brought none.
        """
        found = self._held_here(key)
        reading = _Reading(found, wanted, on_newer)
        if any(wanted(record) for record in found.records()):
            await trio.lowlevel.checkpoint()
            if self._may_go_on(found):
                search = self._begin(key, reading)
                search.is_stopped = True
                self._go_on(search, reading)
            return found.records()
        search = self._begin(key, reading)
        search.waits_for_stragglers = True
        await self._lookups.run(search, key)
        records = found.records()
        if search.is_stopped and self._may_go_on(found):
            self._go_on(search, reading)
        else:
            search.close()
            self._count(found)
        if not any(wanted(record) for record in records):
            raise RecordNotFound(
                f"{short(key)}: no record at {len(search.lookup.closest())} nodes"
            )
        return records

    def _may_go_on(self, found: Collection) -> bool:
        """Whether there is time to look for newer ones, and can be any."""
        is_final = all(_is_final(record) for record in found.records())
        return self._finishing.has_room and not is_final

    def _go_on(self, search: Search, reading: "_Reading") -> None:
        """Read the rest of the region in the background."""
        reading.is_found = True

        async def end() -> None:
            self._lookups.note(search, reading.found.key)
            self._count(reading.found)
            await self._repair(search, reading)

        self._finishing.take(search, end)

    async def find_for_another(
        self, key: bytes
    ) -> tuple[list[SignedRecord], list[Contact]]:
        """What a delegated lookup brings: records of a first holder, closest nodes.

        Withdrawals are among the records, and no nodes where we hold it ourselves.
        """
        found = self._held_here(key)
        if found.records():
            await trio.lowlevel.checkpoint()
            return found.newest(), []
        search = self._begin(key, _Reading(found, _anything))
        search.is_for_another = True
        await self._lookups.run(search, key)
        search.close()
        self._count(found)
        return found.newest(), search.lookup.closest()

    async def find_all(self, key: bytes) -> list[SignedRecord]:
        """The newest record of every slot, from everybody in the region.

        Holders that have an older one, or none, are given the newest.
        """
        return (await self._read_region(key)).records()

    async def highest_seq(self, record: SignedRecord) -> int | None:
        """Under which number a record's slot is held, a withdrawal too; None: empty.

        Reads the whole region, and repairs holders as ``find_all`` does.
        """
        found = await self._read_region(record.key)
        held = found.best.get(slot_of(record))
        return None if held is None else held.seq

    async def _read_region(self, key: bytes) -> Collection:
        found = self._held_here(key)
        reading = _Reading(found)
        search = self._begin(key, reading)
        search.lookup.asks_region_at_once = True
        await self._lookups.run(search, key)
        self._count(found)
        await self._repair(search, reading)
        return found

    async def trace(self, key: bytes) -> LookupTrace:
        """Read the whole region and tell every step; nobody is repaired."""
        found = self._held_here(key)
        search = self._begin(key, _Reading(found))
        search.waits_for_stragglers = True
        search.recorder = recorder = Recorder()
        await self._lookups.run(search, key)
        self._count(found)
        return recorder.trace(key, search.lookup, len(found.records()))

    def _held_here(self, key: bytes) -> Collection:
        now = self._wall_clock()
        found = Collection(key, now)
        for record in self._store.records(key, now):
            found.add(record)
        return found

    def _begin(self, key: bytes, reading: "_Reading") -> Search:
        search = self._lookups.search(key, reading)
        reading.ask_more = search.ask_more
        return search

    def _count(self, found: Collection) -> None:
        self._counts["bad_records"] += found.bad
        self._counts["equivocations"] += len(found.equivocations)

    async def _repair(self, search: Search, reading: "_Reading") -> None:
        """Give holders what they lack; a full bag refuses, which is fine.

        Whoever has nothing is given it only if it is one of the k closest: others'
        regions are a little smaller or larger than ours.
        """
        best = reading.found.newest()
        k = self._lookups.k
        stale: list[tuple[Contact, Request]] = []
        bare: list[tuple[Contact, Request]] = []
        for rank, holder in enumerate(search.lookup.holders()):
            wires = reading.held.get(holder)
            if wires is None and rank >= k:
                continue
            lacking = bare if wires is None else stale
            lacking += [
                (holder, Store(record.wire))
                for record in best
                if wires is None or record.wire not in wires
            ]
        questions = (stale + bare)[:k]
        if questions:
            batch = await self._lookups.ask_all(questions)
            stored = sum(isinstance(reply, Stored) for _, _, reply in batch.answers)
            self._counts["repaired"] += stored


class _Reading:
    """The errand of a read: FIND_VALUE of everybody, and who has what.

    Attributes:
        found: the best of what verifies.
        held: the records that each node answered with, as they came.
        ask_more: asks a node for the rest of a bag that fills several datagrams.
        is_found: what is wanted was handed over; what comes now is news.
    """

    def __init__(
        self,
        found: Collection,
        wanted: Wanted | None = None,
        on_newer: OnNewer | None = None,
    ) -> None:
        """``wanted`` ends the search; such ones that come later go to ``on_newer``."""
        self.found = found
        self.held: dict[Contact, set[bytes]] = {}
        self.ask_more: Callable[[Contact, Request], None] | None = None
        self.is_found = False
        self._wanted = wanted
        self._on_newer = on_newer
        self._questions: dict[bytes, FindValue] = {}

    def question(self, query: Query) -> FindValue:
        """FIND_VALUE, naming the neighbours that the lookup wants to hear of."""
        near = query.near
        body = self._questions.get(near)
        if body is None:
            key = self.found.key
            body = FindValue(key, 0, b"" if near == key else near)
            self._questions[near] = body
        return body

    def answered(self, contact: Contact, asked: Request, reply: Reply) -> bool:
        """Keep the best; whether it is what the read was for."""
        if not isinstance(reply, Values) or not reply.records:
            return False
        self.held.setdefault(contact, set()).update(reply.records)
        if self._brings_wanted(reply.records):
            return True
        assert isinstance(asked, FindValue)
        reached = asked.offset + len(reply.records)
        if reached < reply.total and self.ask_more is not None:
            self.ask_more(contact, FindValue(self.found.key, reached))
        return False

    def _brings_wanted(self, wires: Iterable[bytes]) -> bool:
        wanted = self._wanted
        is_wanted = False
        for wire in wires:
            is_new = not self.found.has_seen(wire)
            record = self.found.add_untrusted(wire)
            if record is None or wanted is None or not wanted(record):
                continue
            is_wanted = True
            if self.is_found and is_new and self._on_newer is not None:
                self._on_newer(record)
        return is_wanted and not self.is_found

    def refused(self, contact: Contact, asked: Request, error: RequestRefused) -> bool:
        """Whoever answers no question is no help."""
        del contact, asked, error
        return False


def _anything(_: SignedRecord) -> bool:
    return True


def _is_final(record: SignedRecord) -> bool:
    """Whether its bytes follow from its key, so that nothing newer can exist."""
    return record.kind is RecordKind.CHUNK
