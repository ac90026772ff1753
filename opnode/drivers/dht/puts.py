"""Putting records where readers will look for them.

Owns the choice of holders and what their refusals count as. Refuses to know when a
record is due.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Final

from opnode.core.errors import (
    NetworkError,
    OtherSequence,
    RecordError,
    RequestRefused,
    StorageError,
)
from opnode.core.ids import NODE_ID_SIZE, Contact, distance, short
from opnode.core.records import MAX_RECORD_SIZE, SignedRecord
from opnode.drivers.clock import WallClock
from opnode.drivers.dht.config import DhtConfig
from opnode.drivers.dht.lookups import Lookups
from opnode.drivers.dht.service import failure_name
from opnode.drivers.rpc.rpc import Rpc
from opnode.drivers.store import RecordStore
from opnode.protocols.lookup.lookup import Query
from opnode.protocols.rpc.messages import (
    FailureCode,
    FindNode,
    Ping,
    Reply,
    Request,
    Store,
    Stored,
)

logger = logging.getLogger(__name__)

_NEAR_SIZE: Final = NODE_ID_SIZE
"""The id whose neighbours are asked for has no room behind the largest record."""
_EXPECTED_SIZE: Final = 8
"""What an expected sequence number takes beyond the nil in its place."""


class Writer:
    """Puts records; ``counts`` takes ``stored``.

    Attributes:
        refusals: how often holders refused, by the name of the reason.
    """

    def __init__(
        self,
        rpc: Rpc,
        lookups: Lookups,
        store: RecordStore,
        *,
        wall_clock: WallClock,
        config: DhtConfig,
        counts: Counter[str],
    ) -> None:
        self.refusals: Counter[str] = Counter()
        self._rpc = rpc
        self._lookups = lookups
        self._store = store
        self._wall_clock = wall_clock
        self._config = config
        self._counts = counts

    async def put(self, record: SignedRecord, expected_seq: int | None = None) -> int:
        """Store a record in its region; returns how many acknowledged.

        Args:
            record: verified or made here.
            expected_seq: only where the slot holds this sequence number, or nothing
                if it is ``NO_RECORD``.

        Raises:
            OtherSequence: as many holders have another number as took the record.
        """
        placement = _Placement(self, record, expected_seq)
        search = self._lookups.search(record.key, placement)
        search.lookup.asks_region_at_once = True
        await self._lookups.run(search, record.key)
        holders = search.lookup.holders()
        held_here = self._hold(record, holders, placement)
        rest = [holder for holder in holders if holder not in placement.asked]
        if rest:
            # Near, but not in the region; or all, where its size is not known yet.
            body = Store(record.wire, b"", expected_seq)
            batch = await self._lookups.ask_all((holder, body) for holder in rest)
            for holder, _, reply in batch.answers:
                placement.answered(holder, body, reply)
            for holder, error in batch.errors:
                placement.note(holder, error)
        self._counts["stored"] += len(placement.stored)
        accepted = held_here + len(placement.stored)
        if placement.conflicts and placement.conflicts >= accepted:
            raise OtherSequence(
                f"{placement.conflicts} holders of {short(record.key)} have another "
                f"sequence number than {expected_seq}, {accepted} took the record"
            )
        return accepted

    async def put_at(
        self, record: SignedRecord, holders: Sequence[Contact]
    ) -> list[Contact]:
        """Store a record at these nodes; returns those that acknowledged.

        Without a lookup, a record that changes often is renewed at half the cost.
        """
        # A refused STORE would have to be sent again with the token it brought.
        unproven = [h for h in holders if not self._rpc.token_for(h.endpoint)]
        await self._lookups.ask_all((holder, Ping()) for holder in unproven)
        body = Store(record.wire)
        batch = await self._lookups.ask_all((holder, body) for holder in holders)
        stored = [
            holder for holder, _, reply in batch.answers if isinstance(reply, Stored)
        ]
        for holder, error in batch.errors:
            self.note_refusal(record, holder, error)
        self._counts["stored"] += len(stored)
        return stored

    def hold_if_close(
        self,
        record: SignedRecord,
        holders: Sequence[Contact],
        expected_seq: int | None = None,
    ) -> bool:
        """Hold a record of ours too if we are in its region or among the closest.

        Raises:
            OtherSequence: we hold another one than the put expects.
        """
        if self._rpc.leaf:
            return False
        k = self._config.lookup.k
        own = distance(self._rpc.node_id, record.key)
        is_close = own < self._lookups.radius() or len(holders) < k
        if not is_close and own > distance(holders[k - 1].node_id, record.key):
            return False
        try:
            self._store.put_untrusted(
                record.wire, self._wall_clock(), expected_seq=expected_seq
            )
        except OtherSequence:
            raise
        except (RecordError, StorageError) as error:
            self.refusals[type(error).__name__] += 1
            logger.info("own store refuses %r: %s", record, error)
            return False
        return True

    def note_refusal(
        self, record: SignedRecord, holder: Contact, error: NetworkError
    ) -> None:
        """Count why a holder does not hold a record."""
        name = type(error).__name__
        if isinstance(error, RequestRefused):
            name = failure_name(error.code)
        self.refusals[name] += 1
        logger.debug("%s does not hold %r: %s", holder.endpoint, record, name)

    def _hold(
        self, record: SignedRecord, holders: Sequence[Contact], placement: "_Placement"
    ) -> bool:
        """Our own store is one holder among the others, and may say no like them."""
        try:
            return self.hold_if_close(record, holders, placement.expected_seq)
        except OtherSequence as error:
            self.refusals[type(error).__name__] += 1
            placement.conflicts += 1
            return False


class _Placement:
    """The errand of a put: STORE in the region, FIND_NODE on the way there.

    So the region's members are asked once, and not for their neighbours first.
    """

    def __init__(
        self, writer: Writer, record: SignedRecord, expected_seq: int | None
    ) -> None:
        self.stored: list[Contact] = []
        self.asked: set[Contact] = set()
        self.conflicts = 0
        self._writer = writer
        self._record = record
        self.expected_seq = expected_seq
        room = MAX_RECORD_SIZE - _NEAR_SIZE
        if expected_seq is not None:
            room -= _EXPECTED_SIZE
        self._has_room = len(record.wire) <= room
        self._questions: dict[tuple[bytes, bool], Request] = {}

    def question(self, query: Query) -> Request:
        """STORE for the region's members, if their neighbours can be asked along."""
        is_holder = query.is_holder and self._has_room
        if is_holder:
            self.asked.add(query.contact)
        body = self._questions.get((query.near, is_holder))
        if body is None:
            if is_holder:
                body = Store(self._record.wire, query.near, self.expected_seq)
            else:
                body = FindNode(query.near)
            self._questions[query.near, is_holder] = body
        return body

    def answered(self, contact: Contact, asked: Request, reply: Reply) -> bool:
        """Whoever answers STORE holds it."""
        del asked
        if isinstance(reply, Stored):
            self.stored.append(contact)
        return False

    def refused(self, contact: Contact, asked: Request, error: RequestRefused) -> bool:
        """A holder may refuse a record and is among the closest all the same."""
        if not isinstance(asked, Store):
            return False
        self.note(contact, error)
        return error.code != FailureCode.NOT_SERVED

    def note(self, contact: Contact, error: NetworkError) -> None:
        """Remember why a holder does not hold the record."""
        self._writer.note_refusal(self._record, contact, error)
        if isinstance(error, RequestRefused):
            self.conflicts += error.code == FailureCode.OTHER_SEQ
