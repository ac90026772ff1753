"""The routing table: which contacts a node keeps, and the exact k nearest of them.

Built on ``kademlia``'s table. Owns who enters, who stays, who leaves, and who is to be
checked. Refuses to know how contacts are asked: its caller tells who answered.
"""

import heapq
import itertools
from collections import Counter
from typing import Final

from kademlia.node import Node
from kademlia.routing import RoutingTable

from opnode.core.addresses import Endpoint
from opnode.core.ids import Contact, NodeId
from opnode.protocols.routing.buckets import ID_BITS, Bucket, BucketView
from opnode.protocols.routing.config import RoutingConfig
from opnode.protocols.routing.entries import TableEntry, fits
from opnode.protocols.routing.nearest import NearestIndex

_LAST_ID: Final = 2**ID_BITS - 1
# An asker that lived so long is a contact like any other.
_CONFIRMED_S: Final = 3600.0
# Whoever was to be checked and was not heard of since comes up again.
_ASK_AGAIN_S: Final = 30.0


class Table(RoutingTable):
    """A node's contacts; the library's table with an exact nearest search."""

    # Only `flush` and `split_bucket` make buckets, and theirs are ours.
    buckets: list[Bucket]  # type: ignore[assignment]  # narrowed

    def __init__(self, node_id: NodeId, config: RoutingConfig | None = None) -> None:
        self._config = config or RoutingConfig()
        self._own = node_id
        # The library looks at the id of its own node alone.
        super().__init__(None, self._config.k, Node(node_id))

    def __len__(self) -> int:
        return len(self._sure) + len(self._unsure)

    def flush(self) -> None:
        """Empty the table. The library's range ends one id too late to halve well."""
        self._groups: Counter[bytes] = Counter()
        self._sure = NearestIndex()
        self._unsure: dict[bytes, TableEntry] = {}
        # Whoever has a place or waits for one, by address: one id at each.
        self._places: dict[Endpoint, TableEntry] = {}
        # Who entered because it asked us, and when.
        self._askers: dict[bytes, float] = {}
        self._reach: int | None = None
        self._checks: list[tuple[float, int, TableEntry]] = []
        self._order = 0
        self.buckets = [Bucket(0, _LAST_ID, self._config, self._groups)]

    def split_bucket(self, index: int) -> None:
        """Replace a bucket by its halves."""
        self.buckets[index : index + 1] = self.buckets[index].halves()

    def get_bucket_for(self, node: Node) -> int:
        """Index of the bucket whose range holds the id."""
        return self._index(node.long_id)

    def add_contact(self, node: Node) -> None:
        """Add an entry; split where that is due. Never asks anybody."""
        assert isinstance(node, TableEntry)
        while True:
            index = self._index(node.long_id)
            bucket = self.buckets[index]
            if bucket.has_room() or not self._may_split(bucket):
                break
            self.split_bucket(index)
        junior = None if bucket.has_room() else bucket.junior_to(node)
        if junior is not None:
            bucket.leave(junior)
            self._sure.discard(junior)
            self._unsure.pop(junior.id, None)
            self._let_wait(junior, bucket)
        if not bucket.has_room():
            self._let_wait(node, bucket)
        elif not bucket.is_capped(node):
            self._places[node.contact.endpoint] = node
            bucket.enter(node)
            self._note_sureness(node, is_sure=True)
            self._schedule(node)

    def find_neighbors(
        self, node: Node, k: int | None = None, exclude: Node | None = None
    ) -> list[Node]:
        """The exact k nearest entries, nearest first.

        The library stops at the first k it walks over, which misses true neighbours.
        """
        target = node.long_id
        near: list[Node] = []
        for entry in self._nearest(target, 2 + (k or self.ksize)):
            is_same_home = exclude is not None and _home(entry) == _home(exclude)
            if entry.long_id != target and not is_same_home:
                near.append(entry)
        return near[: k or self.ksize]

    def nearest(
        self, target: bytes, k: int | None = None, *, reliable: bool = False
    ) -> list[Contact]:
        """The exact k nearest contacts, nearest first; also one whose id is the target.

        Args:
            target: 20 bytes.
            k: how many; a bucket's worth by default.
            reliable: only contacts that answered lately: for others' use. Else the
                doubtful help out where there are too few of them.
        """
        wish = int.from_bytes(target, "big")
        wanted = k or self.ksize
        search = self._sure.nearest if reliable else self._nearest
        return [entry.contact for entry in search(wish, wanted)]

    def nearest_packed(self, target: bytes, count: int) -> list[bytes]:
        """The nearest contacts that answered lately, as replies name them."""
        return self._sure.nearest_packed(int.from_bytes(target, "big"), count)

    def heard(
        self,
        contact: Contact,
        now: float,
        *,
        known_at: float | None = None,
        is_asker: bool = False,
    ) -> None:
        """A contact answered us: the only way into the table.

        Contacts whose id does not fit their address stay outside (BEP 42). The caller
        keeps leaves out.

        Args:
            contact: who answered.
            now: seconds.
            known_at: since when we have known it, when that was before.
            is_asker: it was asked only because it had asked us.
        """
        held = self._places.get(contact.endpoint)
        if held is not None and held.id == contact.node_id:
            self._answered(held, now)
            if known_at is not None:
                self._honour(held, known_at)
            return
        if held is not None:
            # Whoever is at this address changed its id.
            self._remove(held)
        other = self.entry(contact.node_id)
        if other is not None and not other.failures:
            # Same id from a new address: believed only once the old one is silent.
            return
        if contact.node_id == self._own or not fits(contact):
            return
        if other is not None:
            self._remove(other)
        entry = TableEntry(contact, now)
        if known_at is not None:
            entry.known_at = min(now, known_at)
        if is_asker and len(self) >= self._config.stocked:
            if not self._may_take_asker(now):
                # Others that were pinged at the same time have answered meanwhile.
                return
            self._askers[contact.node_id] = now
        self.add_contact(entry)

    def asked(self, contact: Contact, now: float) -> None:
        """A contact asked us with a valid token: it lives, whether it answers or not.

        That puts off its next check, but never for two pauses: it is to answer, too.
        """
        held = self._places.get(contact.endpoint)
        if held is not None and held.id == contact.node_id:
            held.heard_at = now

    def would_take(self, contact: Contact, now: float) -> bool:
        """Whether a contact that asked us is worth a PING, to be let in.

        Once the table is stocked only our neighbours are, because lookups for what is
        near us must find them at once; and not many of them within an hour. All others
        are met when our own lookups are told of them.
        """
        if contact.node_id == self._own or contact.endpoint in self._places:
            return False
        if not fits(contact):
            return False
        long_id = int.from_bytes(contact.node_id, "big")
        if len(self) >= self._config.stocked and not self._is_neighbour(long_id, now):
            return False
        held = self.entry(contact.node_id)
        if held is not None:
            return bool(held.failures)
        bucket = self.buckets[self._index(long_id)]
        if bucket.has_room():
            return not bucket.is_capped(TableEntry(contact))
        return self._may_split(bucket)

    def failed(self, contact: Contact) -> None:
        """A contact did not answer; after two times in a row it is dropped."""
        held = self._places.get(contact.endpoint)
        if held is not None and held.id == contact.node_id:
            self._failed(held)

    def failed_at(self, endpoint: Endpoint) -> TableEntry | None:
        """Whoever is at this address did not answer; returns the entry if it goes."""
        held = self._places.get(endpoint)
        return held if held is not None and self._failed(held) else None

    def remove(self, node_id: NodeId) -> None:
        """Drop a contact; a replacement takes its place."""
        bucket = self.buckets[self._index(int.from_bytes(node_id, "big"))]
        held = bucket.nodes.get(node_id) or bucket.replacement_nodes.get(node_id)
        if held is not None:
            self._remove(held)

    def remove_at(self, endpoint: Endpoint) -> None:
        """Drop whoever is at this address."""
        held = self._places.get(endpoint)
        if held is not None:
            self._remove(held)

    def entry(self, node_id: bytes) -> TableEntry | None:
        """The entry with this id, if it holds a place."""
        doubtful = self._unsure.get(node_id)
        return doubtful or self._sure.get(int.from_bytes(node_id, "big"))

    def entries(self) -> list[TableEntry]:
        """All entries that hold a place, bucket by bucket."""
        return [entry for bucket in self.buckets for entry in bucket.nodes.values()]

    def contacts(self) -> list[Contact]:
        """All contacts that hold a place."""
        return [entry.contact for entry in self.entries()]

    def due(self, now: float, limit: int) -> list[TableEntry]:
        """At most so many entries to check: the doubtful, then those long silent.

        Whoever is returned comes up again soon if it is not heard of.
        """
        found = list(itertools.islice(self._unsure.values(), limit))
        checks = self._checks
        while checks and checks[0][0] <= now and len(found) < limit:
            entry = heapq.heappop(checks)[2]
            if not self._has_place(entry):
                continue
            due_at = self._due_at(entry)
            if due_at <= now:
                due_at = now + _ASK_AGAIN_S
                if entry.is_sure:
                    found.append(entry)
            self._order += 1
            heapq.heappush(checks, (due_at, self._order, entry))
        return found

    def views(self, now: float) -> tuple[BucketView, ...]:
        """All buckets, for people to look at."""
        return tuple(bucket.view(now) for bucket in self.buckets)

    def visited(self, target: bytes, now: float) -> None:
        """A lookup of this id ran: its bucket needs no refresh for a while."""
        self.buckets[self._index(int.from_bytes(target, "big"))].last_updated = now

    def unvisited_since(self, moment: float) -> list[tuple[int, int]]:
        """Id ranges (both ends inclusive) without a lookup since ``moment``."""
        return [b.range for b in self.buckets if b.last_updated < moment]

    def _nearest(self, target: int, count: int) -> list[TableEntry]:
        found = self._sure.nearest(target, count)
        if len(found) < count and self._unsure:
            found += self._unsure.values()
            found.sort(key=lambda entry: entry.long_id ^ target)
        return found[:count]

    def _answered(self, entry: TableEntry, now: float) -> None:
        entry.heard_at = entry.answered_at = now
        entry.failures = 0
        if not entry.is_sure and not entry.is_waiting:
            self._note_sureness(entry, is_sure=True)

    def _honour(self, entry: TableEntry, known_at: float) -> None:
        """An entry turns out to be known for longer than we remembered."""
        entry.known_at = min(entry.known_at, known_at)
        if entry.is_waiting:
            self.buckets[self._index(entry.long_id)].replacement_nodes.pop(entry.id)
            self.add_contact(entry)

    def _failed(self, entry: TableEntry) -> bool:
        """Count a failure; whether the entry had to go."""
        entry.failures += 1
        if entry.failures >= self._config.failures or entry.is_waiting:
            self._remove(entry)
            return True
        self._note_sureness(entry, is_sure=False)
        return False

    def _let_wait(self, entry: TableEntry, bucket: Bucket) -> None:
        self._places[entry.contact.endpoint] = entry
        gone = bucket.wait(entry)
        if gone is not None:
            self._forget(gone)

    def _schedule(self, entry: TableEntry) -> None:
        """Have an entry that got a place checked in time."""
        checks = self._checks
        if len(checks) > 2 * len(self) + 64:
            # Those that left stay in the schedule until then; this bounds them.
            checks[:] = [check for check in checks if self._has_place(check[2])]
            heapq.heapify(checks)
        self._order += 1
        heapq.heappush(checks, (self._due_at(entry), self._order, entry))

    def _has_place(self, entry: TableEntry) -> bool:
        held = self._places.get(entry.contact.endpoint)
        return held is entry and not entry.is_waiting

    def _due_at(self, entry: TableEntry) -> float:
        pause_s = self._config.pause_s(entry.heard_at - entry.known_at)
        # Different for each pair of nodes, so that checks spread by themselves.
        pause_s *= 1 + (entry.id[-1] ^ self._own[-1]) / 1024
        return min(entry.heard_at + pause_s, entry.answered_at + 2 * pause_s)

    def _note_sureness(self, entry: TableEntry, *, is_sure: bool) -> None:
        """Keep the search over sure entries, and the doubtful, up to date."""
        entry.is_sure = is_sure
        self._note_change(entry)
        if is_sure:
            self._unsure.pop(entry.id, None)
            self._sure.add(entry)
        else:
            self._sure.discard(entry)
            self._unsure[entry.id] = entry

    def _remove(self, entry: TableEntry) -> None:
        bucket = self.buckets[self._index(entry.long_id)]
        promoted = bucket.drop(entry)
        self._forget(entry)
        if promoted is not None:
            self._note_sureness(promoted, is_sure=False)
            self._schedule(promoted)

    def _forget(self, entry: TableEntry) -> None:
        """Remove every trace of an entry that has left its bucket."""
        self._places.pop(entry.contact.endpoint, None)
        self._unsure.pop(entry.id, None)
        self._askers.pop(entry.id, None)
        self._sure.discard(entry)
        self._note_change(entry)

    def _is_neighbour(self, long_id: int, now: float) -> bool:
        """Whether an asker is one of the k nearest to us, and there is room for it."""
        if not self._may_take_asker(now):
            return False
        own = self.node.long_id
        if self._reach is None:
            near = self._nearest(own, self.ksize)
            is_full = len(near) >= self.ksize
            self._reach = near[-1].long_id ^ own if is_full else _LAST_ID
        return long_id ^ own <= self._reach

    def _note_change(self, entry: TableEntry) -> None:
        """Find out anew how far our neighbours reach, if this may be one of them."""
        reach = self._reach
        if reach is not None and entry.long_id ^ self.node.long_id <= reach:
            self._reach = None

    def _may_take_asker(self, now: float) -> bool:
        """Whether not too many entered lately because they asked us."""
        askers = self._askers
        while askers:
            first = next(iter(askers))
            if now - askers[first] < _CONFIRMED_S:
                break
            del askers[first]
        return len(askers) < max(self._config.neighbours, len(self) // 10)

    def _may_split(self, bucket: Bucket) -> bool:
        lower, upper = bucket.range
        if lower == upper:
            return False
        is_ours = lower <= self.node.long_id <= upper
        return is_ours or bucket.depth() % self._config.relaxed_bits != 0

    def _index(self, long_id: int) -> int:
        low, high = 0, len(self.buckets) - 1
        while low < high:
            middle = (low + high) // 2
            if long_id <= self.buckets[middle].range[1]:
                high = middle
            else:
                low = middle + 1
        return low


def _home(node: Node) -> tuple[str | None, int | None]:
    return node.ip, node.port
