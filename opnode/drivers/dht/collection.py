"""The records found under one key: verified once, the newest of each slot kept.

Owns what counts as the best, and the evidence of owners who signed two contents under
one number. Refuses to know where records come from.
"""

import logging
from collections.abc import Iterable

from opnode.core.errors import EquivocatingRecord, RecordError
from opnode.core.peerfile import verify_record_untrusted
from opnode.core.records import SignedRecord, check_supersedes, slot_of

logger = logging.getLogger(__name__)


class Collection:
    """Verified records of one key: the highest sequence number of each slot.

    Attributes:
        key: 20 bytes.
        best: by slot.
        bad: how many did not verify.
        equivocations: slots whose owner signed two contents under one number.
    """

    def __init__(self, key: bytes, wall_now: float) -> None:
        self.best: dict[tuple[int, bytes], SignedRecord] = {}
        self.bad = 0
        self.equivocations: set[tuple[int, bytes]] = set()
        self.key = key
        self._wall_now = wall_now
        self._seen: dict[bytes, SignedRecord | None] = {}

    def has_seen(self, wire: bytes) -> bool:
        """Whether these bytes were added before, good or bad."""
        return wire in self._seen

    def add_untrusted(self, wire: bytes) -> SignedRecord | None:
        """Verify once, keep the best.

        Returns the record; None for what does not verify, for what is older than the
        best of its slot, and for a withdrawal.
        """
        if wire not in self._seen:
            self._seen[wire] = record = self._verified_untrusted(wire)
            if record is not None:
                self.add(record)
        record = self._seen[wire]
        if record is None or record.is_withdrawal:
            return None
        return record if self.best[slot_of(record)].wire == wire else None

    def _verified_untrusted(self, wire: bytes) -> SignedRecord | None:
        try:
            record = verify_record_untrusted(wire, self._wall_now)
        except RecordError:
            self.bad += 1
            return None
        if record.key == self.key:
            return record
        self.bad += 1
        return None

    def add_all_untrusted(self, wires: Iterable[bytes]) -> None:
        """Verify each once, keep the best."""
        for wire in wires:
            self.add_untrusted(wire)

    def add(self, record: SignedRecord) -> None:
        """Keep a verified record if it is the newest of its slot."""
        self._seen[record.wire] = record
        slot = slot_of(record)
        held = self.best.get(slot)
        if held is not None:
            try:
                check_supersedes(record, held)
            except EquivocatingRecord as error:
                # Of two that claim one number, the one heard first stays.
                if slot not in self.equivocations:
                    self.equivocations.add(slot)
                    logger.warning("%s", error)
                return
            except RecordError:
                return
        self.best[slot] = record

    def records(self) -> list[SignedRecord]:
        """The best of each slot, unless its owner took it back."""
        return [record for record in self.best.values() if not record.is_withdrawal]

    def newest(self) -> list[SignedRecord]:
        """The best of each slot, withdrawals too: what holders should have."""
        return list(self.best.values())
