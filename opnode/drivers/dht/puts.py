"""Putting records where readers will look for them.

Owns the choice of holders and what their refusals count as. Refuses to know when a
record is due.
"""

import logging
from collections import Counter
from collections.abc import Sequence

from opnode.core.errors import RecordError, RequestRefused, StorageError
from opnode.core.ids import Contact, distance
from opnode.core.records import SignedRecord
from opnode.drivers.clock import WallClock
from opnode.drivers.dht.config import DhtConfig
from opnode.drivers.dht.lookups import Lookups
from opnode.drivers.dht.search import Batch
from opnode.drivers.dht.service import failure_name
from opnode.drivers.rpc.rpc import Rpc
from opnode.drivers.store import RecordStore
from opnode.protocols.rpc.messages import Ping, Store, Stored

logger = logging.getLogger(__name__)


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

    async def put(self, record: SignedRecord) -> int:
        """Store a record at the closest nodes; returns how many acknowledged."""
        holders = await self._lookups.closest_nodes(record.key)
        held_here = self.hold_if_close(record, holders)
        return held_here + len(await self.put_at(record, holders))

    async def put_at(
        self, record: SignedRecord, holders: Sequence[Contact]
    ) -> list[Contact]:
        """Store a record at these nodes; returns those that acknowledged.

        Without a lookup, a record that changes often is renewed at a quarter of the
        cost.
        """
        # A refused STORE would have to be sent again with the token it brought.
        unproven = [h for h in holders if not self._rpc.token_for(h.endpoint)]
        await self._lookups.ask_all((holder, Ping()) for holder in unproven)
        body = Store(record.wire)
        batch = await self._lookups.ask_all((holder, body) for holder in holders)
        stored = [
            holder for holder, _, reply in batch.answers if isinstance(reply, Stored)
        ]
        self._note_refusals(record, batch)
        self._counts["stored"] += len(stored)
        return stored

    def hold_if_close(self, record: SignedRecord, holders: Sequence[Contact]) -> bool:
        """Hold a record of ours too if we are among the closest servers."""
        if self._rpc.leaf:
            return False
        k = self._config.lookup.k
        if len(holders) >= k:
            own = distance(self._rpc.node_id, record.key)
            if own > distance(holders[k - 1].node_id, record.key):
                return False
        try:
            self._store.put_untrusted(record.wire, self._wall_clock())
        except (RecordError, StorageError) as error:
            self.refusals[type(error).__name__] += 1
            logger.info("own store refuses %r: %s", record, error)
            return False
        return True

    def _note_refusals(self, record: SignedRecord, batch: Batch) -> None:
        for contact, error in batch.errors:
            name = type(error).__name__
            if isinstance(error, RequestRefused):
                name = failure_name(error.code)
            self.refusals[name] += 1
            logger.debug("%s does not hold %r: %s", contact.endpoint, record, name)
