"""The records that this node keeps alive for itself: when each is put again.

Owns the schedule. Refuses to know how a record is put.
"""

import random
from dataclasses import dataclass

import trio

from opnode.core.errors import StorageError
from opnode.core.records import SignedRecord, slot_of
from opnode.drivers.clock import WallClock
from opnode.drivers.dht.config import DhtConfig


@dataclass(slots=True)
class _Own:
    record: SignedRecord
    due_at: float


class OwnRecords:
    """Records to be put again and again until they expire.

    Attributes:
        put_again: puts that were due since the start.
        failed: of those, how many no holder took.
    """

    def __init__(
        self, config: DhtConfig, wall_clock: WallClock, rng: random.Random
    ) -> None:
        self.put_again = 0
        self.failed = 0
        self._config = config
        self._wall_clock = wall_clock
        self._rng = rng
        self._own: dict[tuple[bytes, int, bytes], _Own] = {}

    def __len__(self) -> int:
        return len(self._own)

    def keep(self, record: SignedRecord) -> None:
        """Keep a record alive, in the place of an older one of its slot.

        Raises:
            StorageError: so many are kept alive already.
        """
        kind, owner = slot_of(record)
        key = (record.key, kind, owner)
        if key not in self._own and len(self._own) >= self._config.max_own:
            raise StorageError(
                f"{len(self._own)} records are republished, that is the limit"
            )
        self._own[key] = _Own(record, self._next_put_at(record))

    def due(self, now: float) -> list[SignedRecord]:
        """The records to put now, at most a few; each is scheduled anew."""
        wall_now = self._wall_clock()
        for key, own in list(self._own.items()):
            if own.record.expires_at <= wall_now:
                del self._own[key]
        late = [own for own in self._own.values() if own.due_at <= now]
        late.sort(key=lambda own: own.due_at)
        due = late[: self._config.own_per_tick]
        for own in due:
            own.due_at = self._next_put_at(own.record)
        self.put_again += len(due)
        return [own.record for own in due]

    def nobody_took(self, record: SignedRecord) -> None:
        """Put a record again soon: the last put reached no holder."""
        self.failed += 1
        kind, owner = slot_of(record)
        own = self._own.get((record.key, kind, owner))
        if own is not None and own.record == record:
            retry_s = self._config.own_retry_s * self._rng.uniform(0.75, 1.25)
            own.due_at = min(own.due_at, trio.current_time() + retry_s)

    def _next_put_at(self, record: SignedRecord) -> float:
        remaining_s = max(0.0, record.expires_at - self._wall_clock())
        pause_s = min(self._config.republish_s, remaining_s / 3)
        return trio.current_time() + pause_s * self._rng.uniform(0.75, 1.25)
