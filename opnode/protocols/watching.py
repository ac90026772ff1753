"""Who is to be told when a record changes, and how fast: a holder's subscriptions.

Owns the watches by key and endpoint, their limits and lifetimes, and the pacing of the
notices. Sans-I/O: ``now`` is monotonic seconds, notices go out as values. Refuses to
know what records mean, whether they are genuine, and how a notice travels.
"""

import heapq
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Final, NamedTuple

from opnode.core.addresses import Endpoint, is_public, subnet_group
from opnode.core.errors import OpnodeError

Slot = tuple[int, bytes]
"""Kind and owner: which place of its key's bag a record takes."""

# Expired watches taken away in one call, and the pause before those that are left.
_SWEEP: Final = 512
_SWEEP_EVERY_S: Final = 1.0


class WatchRefused(OpnodeError):  # noqa: N818 - named as the other refusals
    """A limit of the holder is reached; another holder may have room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchConfig:
    """What a holder does for watchers, each limit with its reason.

    Attributes:
        max_watches: at about 700 bytes each, 11 MB.
        max_per_key: the watchers of one famous record: 8 000 and a few. Beyond them
            the other holders of the record have room.
        max_per_endpoint: the contacts of one person whose records this node holds.
        group_watches: of one public /24 or /48, where a provider may put a hundred
            customers: sixty-four networks are needed to fill the table.
        local_group_watches: of one private or loopback network: a lab lives in one.
        max_lifetime_s: a watcher that left costs nothing after ten minutes.
        notices_per_s: steady pace of all notices together; at 700 bytes each 140 kB/s
            and 2 % of a core. 8 000 watchers of one record are told in 40 s.
        notices_at_once: of one wake-up, so that none takes longer than 4 ms.
        visits_at_once: watches looked at in one wake-up; most need nothing.
        max_under_way: notices that were not acknowledged yet. With all watchers dead,
            that bounds what the Rpc remembers.
        spacing_s: mean pause between two notices for one endpoint: 4.8 kB/s to it.
        burst: notices for one endpoint at once: a person's peer file and devices.
        max_failures: notices without an answer after which a watcher is told nothing
            more until it renews.
        max_slots: changed slots of one key remembered for watchers that are behind.
    """

    max_watches: int = 16_384
    max_per_key: int = 8_192
    max_per_endpoint: int = 256
    group_watches: int = 256
    local_group_watches: int = 10_000
    max_lifetime_s: float = 600.0
    notices_per_s: float = 200.0
    notices_at_once: int = 32
    visits_at_once: int = 256
    max_under_way: int = 128
    spacing_s: float = 0.25
    burst: int = 4
    max_failures: int = 2
    max_slots: int = 64


class Notice(NamedTuple):
    """A record to be sent to one watcher; given back to ``settled``."""

    endpoint: Endpoint
    key: bytes
    wire: bytes


class WatchStatistics(NamedTuple):
    """What is held now, and counters since the start."""

    watches: int
    keys: int
    notices: int
    refused: int


class _Watcher:
    """One endpoint, whatever it watches."""

    __slots__ = ("next_at", "watches")

    def __init__(self) -> None:
        self.watches = 0
        self.next_at = 0.0


class _Watch:
    """One endpoint's subscription to one key."""

    __slots__ = ("endpoint", "expires_at", "failures", "heard", "key", "watcher")

    def __init__(self, key: bytes, endpoint: Endpoint, watcher: _Watcher) -> None:
        self.key = key
        self.endpoint = endpoint
        self.watcher = watcher
        self.expires_at = 0.0
        # The number of the last change that was sent.
        self.heard = 0
        self.failures = 0


class _Key:
    """The watches of one key, those told longest ago first, and what changed."""

    __slots__ = ("changes", "is_again", "is_busy", "to_visit", "watches")

    def __init__(self) -> None:
        self.watches: OrderedDict[Endpoint, _Watch] = OrderedDict()
        # By slot: the change's number and the record; the oldest change first.
        self.changes: OrderedDict[Slot, tuple[int, bytes]] = OrderedDict()
        self.to_visit = 0
        self.is_again = False
        self.is_busy = False


class WatchDesk:
    """The subscriptions that one holder serves.

    A change costs the same for one watcher and for eight thousand: it is noted, and the
    watchers are visited a few at a time, keys in turn. Who was told longest ago is told
    first, and always the newest record of a slot.
    """

    def __init__(self, config: WatchConfig | None = None) -> None:
        self._config = config or WatchConfig()
        self._keys: dict[bytes, _Key] = {}
        self._watchers: dict[Endpoint, _Watcher] = {}
        self._groups: Counter[bytes] = Counter()
        # Keys with watchers that are behind, in the order of their turns.
        self._busy: OrderedDict[bytes, _Key] = OrderedDict()
        self._expiries: list[tuple[float, int, _Watch]] = []
        self._numbers = 0
        self._watches = 0
        self._under_way = 0
        self._notices = 0
        self._refused = 0
        self._next_at = 0.0
        self._swept_at = 0.0

    def watch(
        self, key: bytes, endpoint: Endpoint, lifetime_s: float, now: float
    ) -> float:
        """Begin, renew or (with a lifetime of 0) end a watch.

        Whoever begins has read the records itself: only later changes are sent.

        Args:
            key: the storage key.
            endpoint: who is to be told, proven by a token.
            lifetime_s: how long it wants to be told.
            now: seconds.

        Returns:
            For how many seconds it will be told.

        Raises:
            WatchRefused: a limit is reached.
        """
        self._sweep(now)
        granted_s = min(max(lifetime_s, 0.0), self._config.max_lifetime_s)
        entry = self._keys.get(key)
        watch = entry.watches.get(endpoint) if entry is not None else None
        if not granted_s:
            if watch is not None:
                self._drop(watch)
            return 0.0
        if watch is None:
            watch = self._begin(key, endpoint)
            watch.heard = self._numbers
            self._expect(watch, now + granted_s)
        watch.expires_at = now + granted_s
        watch.failures = 0
        return granted_s

    def changed(self, key: bytes, slot: Slot, wire: bytes) -> None:
        """A new record is held; it replaces one of its slot that is still to be sent.

        Args:
            key: the storage key.
            slot: which place of the bag it takes.
            wire: the record.
        """
        entry = self._keys.get(key)
        if entry is None:
            return
        self._numbers += 1
        entry.changes[slot] = (self._numbers, wire)
        entry.changes.move_to_end(slot)
        if len(entry.changes) > self._config.max_slots:
            entry.changes.popitem(last=False)
        entry.to_visit = len(entry.watches)
        entry.is_again = False
        if not entry.is_busy:
            entry.is_busy = True
            self._busy[key] = entry

    def notices(self, now: float) -> list[Notice]:
        """What is to be sent now; each is given back to ``settled`` later."""
        self._sweep(now)
        if now < self._next_at or not self._busy:
            return []
        config = self._config
        room = min(config.notices_at_once, config.max_under_way - self._under_way)
        chosen: list[Notice] = []
        visits = config.visits_at_once
        while self._busy and len(chosen) < room and visits > 0:
            visits -= 1
            key, entry = self._busy.popitem(last=False)
            notice = self._visit(key, entry, now)
            if notice is not None:
                chosen.append(notice)
            if entry.to_visit:
                self._busy[key] = entry
            else:
                self._rest(entry)
        self._under_way += len(chosen)
        self._notices += len(chosen)
        # With nothing sent, everybody who is behind has just been told something.
        pause_s = len(chosen) / config.notices_per_s if chosen else config.spacing_s
        self._next_at = now + pause_s
        return chosen

    def settled(self, notice: Notice, *, is_heard: bool) -> None:
        """A notice was acknowledged, or was not: then its watcher may be gone."""
        self._under_way -= 1
        entry = self._keys.get(notice.key)
        watch = entry.watches.get(notice.endpoint) if entry is not None else None
        if watch is not None:
            watch.failures = 0 if is_heard else watch.failures + 1

    def ended(self, notice: Notice) -> None:
        """The watcher said that it does not watch this any more."""
        self._under_way -= 1
        entry = self._keys.get(notice.key)
        watch = entry.watches.get(notice.endpoint) if entry is not None else None
        if watch is not None:
            self._drop(watch)

    def next_deadline(self) -> float | None:
        """When ``notices`` has something to do, or None."""
        due_at = []
        if self._busy and self._under_way < self._config.max_under_way:
            due_at.append(self._next_at)
        if self._expiries:
            due_at.append(max(self._expiries[0][0], self._swept_at + _SWEEP_EVERY_S))
        return min(due_at, default=None)

    def statistics(self) -> WatchStatistics:
        """Read the counters."""
        return WatchStatistics(
            watches=self._watches,
            keys=len(self._keys),
            notices=self._notices,
            refused=self._refused,
        )

    def _begin(self, key: bytes, endpoint: Endpoint) -> _Watch:
        self._check_limits(key, endpoint)
        entry = self._keys.get(key)
        if entry is None:
            entry = self._keys[key] = _Key()
        watcher = self._watchers.get(endpoint)
        if watcher is None:
            watcher = self._watchers[endpoint] = _Watcher()
        watch = entry.watches[endpoint] = _Watch(key, endpoint, watcher)
        watcher.watches += 1
        self._groups[subnet_group(endpoint.host)] += 1
        self._watches += 1
        return watch

    def _check_limits(self, key: bytes, endpoint: Endpoint) -> None:
        config = self._config
        entry = self._keys.get(key)
        watcher = self._watchers.get(endpoint)
        public = is_public(endpoint.host)
        group_limit = config.group_watches if public else config.local_group_watches
        full = ""
        if self._watches >= config.max_watches:
            full = "watches"
        elif entry is not None and len(entry.watches) >= config.max_per_key:
            full = "watches of this key"
        elif watcher is not None and watcher.watches >= config.max_per_endpoint:
            full = "watches of yours"
        elif self._groups[subnet_group(endpoint.host)] >= group_limit:
            full = "watches of your network"
        if full:
            self._refused += 1
            raise WatchRefused(f"no room for more {full}")

    def _visit(self, key: bytes, entry: _Key, now: float) -> Notice | None:
        """Look at the watch that was told longest ago; it goes to the end."""
        endpoint, watch = next(iter(entry.watches.items()))
        entry.watches.move_to_end(endpoint)
        entry.to_visit -= 1
        notice = None
        unheard = [
            change for change in entry.changes.values() if change[0] > watch.heard
        ]
        is_muted = watch.failures >= self._config.max_failures
        if unheard and not is_muted and watch.expires_at > now:
            spacing_s = self._config.spacing_s
            if watch.watcher.next_at > now + (self._config.burst - 1) * spacing_s:
                entry.is_again = True
            else:
                watch.heard, wire = unheard[0]
                watch.watcher.next_at = max(watch.watcher.next_at, now) + spacing_s
                notice = Notice(endpoint, key, wire)
                entry.is_again = entry.is_again or len(unheard) > 1
        if not entry.to_visit and entry.is_again:
            entry.to_visit = len(entry.watches)
            entry.is_again = False
        return notice

    def _rest(self, entry: _Key) -> None:
        """Everybody was told; whoever is muted reads for itself when it renews."""
        entry.is_busy = False
        entry.changes.clear()

    def _drop(self, watch: _Watch) -> None:
        entry = self._keys[watch.key]
        del entry.watches[watch.endpoint]
        entry.to_visit = min(entry.to_visit, len(entry.watches))
        if not entry.to_visit and entry.is_busy:
            del self._busy[watch.key]
            self._rest(entry)
        if not entry.watches:
            del self._keys[watch.key]
        watch.watcher.watches -= 1
        if not watch.watcher.watches:
            del self._watchers[watch.endpoint]
        group = subnet_group(watch.endpoint.host)
        self._groups[group] -= 1
        if not self._groups[group]:
            del self._groups[group]
        watch.expires_at = 0.0
        self._watches -= 1

    def _expect(self, watch: _Watch, expires_at: float) -> None:
        """Look at a watch again then; renewals meanwhile cost nothing here."""
        if len(self._expiries) > 2 * self._watches + 64:
            # Watches that ended early leave their entry behind; this bounds them.
            self._expiries = [e for e in self._expiries if e[2].expires_at]
            heapq.heapify(self._expiries)
        self._numbers += 1
        heapq.heappush(self._expiries, (expires_at, self._numbers, watch))

    def _sweep(self, now: float) -> None:
        self._swept_at = now
        for _ in range(_SWEEP):
            if not self._expiries or self._expiries[0][0] > now:
                return
            watch = heapq.heappop(self._expiries)[2]
            if watch.expires_at > now:
                self._expect(watch, watch.expires_at)
            elif watch.expires_at:
                self._drop(watch)
