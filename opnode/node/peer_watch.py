"""The comings and goings of one peer, from the records under its key as they change.

Owns what counts as coming, changing and going. Refuses to know how records are watched.
"""

import enum
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Self

import trio

from opnode.core.peerfile import Presence, read_presence
from opnode.core.records import RecordKind, SignedRecord
from opnode.drivers.clock import WallClock


class PresenceEvent(enum.Enum):
    """What happened to one location of a peer."""

    CAME = "came"
    CHANGED = "changed"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class PresenceChange:
    """One location of the peer came, changed or went; its presence then, or before."""

    event: PresenceEvent
    presence: Presence


class PeerWatch:
    """An async iterator of `PresenceChange`: first who is here, then what changes.

    A presence that is only renewed, as every sixteen minutes, is no change. A location
    is gone when it takes its presence back, or when that has expired.
    """

    def __init__(
        self,
        records: AsyncIterator[SignedRecord],
        wall_clock: WallClock,
        found: Callable[[Iterable[Presence]], None],
    ) -> None:
        """Follow ``records``, which are verified; ``found`` hears of each presence."""
        self._records = records
        self._wall_clock = wall_clock
        self._found = found
        # By location: its presence and when that expires, in Unix seconds. As many as
        # a watch follows slots.
        self._here: dict[bytes, tuple[Presence, int]] = {}

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> PresenceChange:
        """Wait for the next change."""
        while True:
            record = await self._next_record()
            change = self._expired() if record is None else self._take(record)
            if change is not None:
                return change

    async def _next_record(self) -> SignedRecord | None:
        """The next record, or None when a presence expires before it comes."""
        ends = [expires_at for _, expires_at in self._here.values()]
        left_s = min(ends) - self._wall_clock() if ends else float("inf")
        with trio.move_on_after(max(0.0, left_s)):
            return await anext(self._records)
        return None

    def _expired(self) -> PresenceChange | None:
        now = self._wall_clock()
        for owner, (presence, expires_at) in self._here.items():
            if expires_at <= now:
                del self._here[owner]
                return PresenceChange(PresenceEvent.GONE, presence)
        return None

    def _take(self, record: SignedRecord) -> PresenceChange | None:
        if record.kind is not RecordKind.PRESENCE:
            return None
        before = self._here.get(record.owner)
        if record.is_withdrawal:
            if before is None:
                return None
            del self._here[record.owner]
            return PresenceChange(PresenceEvent.GONE, before[0])
        presence = read_presence(record)
        self._here[record.owner] = (presence, record.expires_at)
        self._found((presence,))
        if before is None:
            return PresenceChange(PresenceEvent.CAME, presence)
        if before[0] == presence:
            return None
        return PresenceChange(PresenceEvent.CHANGED, presence)
