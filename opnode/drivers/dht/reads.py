"""Reading records: the first that verifies, or the newest from all holders.

Owns verification of what is found and the repair of holders that lag behind. Refuses to
know what records mean.
"""

from collections import Counter
from collections.abc import Callable

import trio

from opnode.core.errors import RecordNotFound
from opnode.core.ids import Contact, short
from opnode.core.records import SignedRecord
from opnode.drivers.clock import WallClock
from opnode.drivers.dht.lookups import Lookups
from opnode.drivers.dht.search import Collection
from opnode.drivers.store import RecordStore
from opnode.protocols.rpc.messages import (
    FindValue,
    Request,
    Store,
    Stored,
    Values,
)


class Reader:
    """Finds records; ``counts`` takes ``bad_records`` and ``repaired``."""

    def __init__(
        self,
        lookups: Lookups,
        store: RecordStore,
        wall_clock: WallClock,
        counts: Counter[str],
    ) -> None:
        self._lookups = lookups
        self._store = store
        self._wall_clock = wall_clock
        self._counts = counts

    async def find_first(
        self, key: bytes, wanted: Callable[[SignedRecord], bool]
    ) -> list[SignedRecord]:
        """Search until a verified record that is wanted is here.

        Returns the best record of every slot heard of until then.

        Raises:
            RecordNotFound: the whole lookup brought none.
        """
        found = Collection(key, self._wall_clock())
        for record in self._store.records(key, self._wall_clock()):
            found.add(record)
        if any(wanted(record) for record in found.records()):
            await trio.lowlevel.checkpoint()
            return found.records()
        search = self._lookups.search(key, FindValue(key))

        def take(contact: Contact, asked: Request, values: Values) -> bool:
            records = [found.add_untrusted(wire) for wire in values.records]
            if any(record is not None and wanted(record) for record in records):
                return True
            assert isinstance(asked, FindValue)
            reached = asked.offset + len(values.records)
            if values.records and reached < values.total:
                search.ask_more(contact, FindValue(key, reached))
            return False

        search.on_values = take
        search.waits_for_stragglers = True
        await self._lookups.run(search, key)
        self._counts["bad_records"] += found.bad
        if not any(wanted(record) for record in found.records()):
            raise RecordNotFound(
                f"{short(key)}: no record at {len(search.lookup.closest())} nodes"
            )
        return found.records()

    async def find_all(self, key: bytes) -> list[SignedRecord]:
        """The newest record of every slot, from all the closest nodes.

        Holders that have an older one, or none, are given the newest.
        """
        found = Collection(key, self._wall_clock())
        for record in self._store.records(key, self._wall_clock()):
            found.add(record)
        held: dict[Contact, set[bytes]] = {}
        questions: list[tuple[Contact, Request]] = [
            (contact, FindValue(key))
            for contact in await self._lookups.closest_nodes(key)
        ]
        while questions:
            batch = await self._lookups.ask_all(questions)
            questions = []
            for contact, asked, reply in batch.answers:
                if not isinstance(reply, Values) or not isinstance(asked, FindValue):
                    continue
                held.setdefault(contact, set()).update(reply.records)
                for wire in reply.records:
                    found.add_untrusted(wire)
                reached = asked.offset + len(reply.records)
                if reply.records and reached < reply.total:
                    questions.append((contact, FindValue(key, reached)))
        self._counts["bad_records"] += found.bad
        await self._repair(found, held)
        return found.records()

    async def _repair(self, found: Collection, held: dict[Contact, set[bytes]]) -> None:
        """Give every close holder what it lacks; a full bag refuses, which is fine."""
        questions: list[tuple[Contact, Request]] = [
            (contact, Store(record.wire))
            for contact, wires in held.items()
            for record in found.newest()
            if record.wire not in wires
        ]
        if questions:
            batch = await self._lookups.ask_all(questions)
            stored = sum(isinstance(reply, Stored) for _, _, reply in batch.answers)
            self._counts["repaired"] += stored
