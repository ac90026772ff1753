"""Whose records make room for whose: the quotas of a store and its eviction rule.

Owns what is counted for whom and which record goes when one more is to come in.
Refuses to know bags and bytes.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final

from opnode.core.addresses import is_public, subnet_group
from opnode.core.errors import StorageError
from opnode.core.ids import STORAGE_KEY_SIZE, NodeId, distance
from opnode.core.records import RecordKind, SignedRecord
from opnode.drivers.store.config import StoreConfig
from opnode.drivers.store.file import Gone, RecordFile

UNBOUND: Final = frozenset((RecordKind.CHUNK, RecordKind.CLAIM))
"""Kinds of which anybody can make as many as they like, at places of their choice."""


class StoreFull(StorageError):  # noqa: N818 - named as its siblings
    """The node holds as much as it is willing to. Put it elsewhere."""


class Quotas:
    """Counts what is held for whom and makes room.

    Attributes:
        near: our place. When room is needed, unbound records go, the farthest first.
        records: how many are held.
        bytes: of all of them together.
    """

    def __init__(
        self,
        file: RecordFile,
        config: StoreConfig,
        on_gone: Callable[[Gone], None],
    ) -> None:
        """Count what the file holds; ``on_gone`` hears of everything that leaves."""
        self.near = NodeId(bytes(STORAGE_KEY_SIZE))
        self.config = config
        self._file = file
        self._on_gone = on_gone
        self._groups: Counter[bytes] = Counter(file.groups())
        self.records = self._groups.total()
        self.bytes = file.size()

    def entered(self, record: SignedRecord, group: bytes) -> None:
        """A new record is held."""
        self.records += 1
        self.bytes += len(record.wire)
        self._groups[group] += 1

    def left(self, gone: list[Gone]) -> int:
        """Records were dropped; returns how many."""
        for one in gone:
            self.records -= 1
            self.bytes -= one.size
            self._groups[one.group] -= 1
            if not self._groups[one.group]:
                del self._groups[one.group]
            self._on_gone(one)
        return len(gone)

    def make_room(self, record: SignedRecord, source: str | None) -> None:
        """Evict what is worth less than the record until it has a place.

        Raises:
            StoreFull: nothing that is held is worth less.
        """
        config = self.config
        if source is not None:
            group = subnet_group(source)
            public = is_public(source)
            limit = config.group_records if public else config.local_group_records
            while self._groups[group] >= limit:
                if not self._evict(record, group):
                    raise StoreFull(f"{limit} records of your network are held")
        while self.records >= config.max_records:
            if not self._evict(record, None):
                raise StoreFull(f"{self.records} records are held, that is the limit")
        while self.bytes + len(record.wire) > config.max_bytes:
            if not self._evict(record, None):
                raise StoreFull(f"{self.bytes} bytes are held, that is near the limit")

    def _evict(self, record: SignedRecord, group: bytes | None) -> bool:
        """Drop the farthest unbound record, of one group or of all, if it may go.

        One that is bound to its key displaces any; another only one farther away.
        """
        key = self._farthest(group)
        if key is None:
            return False
        is_nearer = distance(record.key, self.near) < distance(key, self.near)
        if record.kind in UNBOUND and not is_nearer:
            return False
        return self.left(self._file.evict_unbound(key, group)) > 0

    def _farthest(self, group: bytes | None) -> bytes | None:
        """The key of the farthest unbound record.

        Ids with a common prefix are a range of keys, so the farthest is found by going
        down the bits of our id and taking the other side wherever there is a record:
        a few index look-ups (0.1 ms among 100 000), and no order to keep up to date.
        """
        bits = 8 * STORAGE_KEY_SIZE
        if not self._file.unbound_between(0, (1 << bits) - 1, group):
            return None
        near = int.from_bytes(self.near, "big")
        lower = 0
        for bit in reversed(range(bits)):
            size = 1 << bit
            far = lower if near & size else lower + size
            found = self._file.unbound_between(far, far + size - 1, group)
            if len(found) == 1:
                return found[0]
            lower = far if found else 2 * lower + size - far
        return lower.to_bytes(STORAGE_KEY_SIZE, "big")
