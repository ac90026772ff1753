"""Routing tables of many nodes: k contacts for each length of a shared prefix.

Owns who stands in whose bucket, and since when. Refuses to know when contacts are
checked and what has become of them.

    tables = Tables(people, generator, depths=depths_for(100_000))
    tables.seat(nodes)                          # give nodes a table, empty as yet
    tables.fill(nodes, loop.now, Living(people, loop.now))  # as after a join
    tables.nearest(node, target, 20)            # [(distance, contact), …] nearest first
    tables.contacts_of(node)                    # all, as an array
    tables.unseat(nodes)                        # they left: their seats are free again

Bucket d of a node holds ids that share exactly d bits with its own, the last one all
that share more too (Kademlia §2.2, one bit a step). A table is a row of one array, 8
bytes for each place: 100 000 nodes with 17 buckets of 20 are 272 MB.
"""

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from simulations.backends.event.population import (
    Nodes,
    Population,
    Seconds,
)
from simulations.model.arrays import Ids, Mask
from simulations.model.ids import ID_BITS

Seats = npt.NDArray[np.int64]

EMPTY: Final = -1
_WIDTHS: Final = (5, 13, 25, 41, 65)
"""Ranges of fewer nodes than the last are shuffled whole, of larger ones some drawn."""
_SPARE: Final = 12
"""Drawn beyond what is wanted, since some are drawn twice or known already."""
_TRIES: Final = 6
"""Drawn for a place that became free; one that finds nobody waits for a look around."""
_CHUNK: Final = 1 << 15
"""Buckets filled at once: 64 candidates each are 17 MB."""
_ONE: Final = np.uint64(1)


def depths_for(count: int) -> int:
    """Buckets that so many nodes need: beyond them ranges hold less than one node."""
    return max(1, math.ceil(math.log2(max(2, count)))) + 1


class Living:
    """The nodes that are there at one moment, by id: who is in a range of ids.

    Attributes:
        nodes: sorted by id.
        ids: theirs; uint64.
    """

    def __init__(self, people: Population, now: float) -> None:
        alive = people.alive(now)
        ids = people.ids[alive]
        order = np.argsort(ids)
        self.nodes: Nodes = alive[order]
        self.ids: Ids = ids[order]

    def change(self, people: Population, gone: Nodes, come: Nodes) -> None:
        """Take out and put in; 1 ms for a thousand among 100 000."""
        at = np.searchsorted(self.ids, people.ids[gone])
        ids, nodes = np.delete(self.ids, at), np.delete(self.nodes, at)
        come = come[np.argsort(people.ids[come])]
        at = np.searchsorted(ids, people.ids[come])
        self.ids = np.insert(ids, at, people.ids[come])
        self.nodes = np.insert(nodes, at, come)

    def closest(self, target: int, k: int) -> list[int]:
        """The true k nearest to an id, nearest first; by XOR."""
        # The k nearest share a prefix, and all who share it stand together.
        bits = 0
        low, high = 0, len(self.ids)
        while bits < ID_BITS:
            base = target >> (ID_BITS - bits - 1) << (ID_BITS - bits - 1)
            last = base + (1 << (ID_BITS - bits - 1)) - 1
            first = int(np.searchsorted(self.ids, np.uint64(base)))
            end = int(np.searchsorted(self.ids, np.uint64(last), side="right"))
            if end - first < k:
                break
            low, high, bits = first, end, bits + 1
        away = self.ids[low:high] ^ np.uint64(target)
        nearest: list[int] = self.nodes[low:high][np.argsort(away)[:k]].tolist()
        return nearest


class _Ranges(NamedTuple):
    """For each bucket, where the nodes stand that it may hold: first, and how many."""

    first: Seats
    size: Seats


class Tables:
    """The routing tables of all nodes that have one.

    Attributes:
        k: places of a bucket.
        depths: buckets of a table.
        contacts: nodes by number, `EMPTY` where a place is free; int32, shape (seats,
            depths, k).
        since: when each got its place, virtual seconds; float32, the same shape.
        seat_of: of each node; `EMPTY` if it has none.
        owner_of: whose seat it is; `EMPTY` if it is free.
    """

    def __init__(
        self,
        people: Population,
        generator: np.random.Generator,
        *,
        depths: int,
        k: int = 20,
    ) -> None:
        """No tables as yet; ``generator`` draws who stands in them."""
        self._generator = generator
        self.k = k
        self.depths = depths
        self._people = people
        self.contacts = np.full((0, depths, k), EMPTY, np.int32)
        self.since = np.zeros((0, depths, k), np.float32)
        self.seat_of = np.full(len(people), EMPTY, np.int64)
        self.owner_of = np.full(0, EMPTY, np.int64)
        self._free: list[int] = []

    def seat(self, nodes: Nodes) -> Seats:
        """Give nodes an empty table each; returns their seats."""
        if len(nodes) > len(self._free):
            self._grow(len(nodes) - len(self._free))
        taken = [self._free.pop() for _ in range(len(nodes))]
        seats = np.array(taken, dtype=np.int64)
        self._know(len(self._people))
        self.seat_of[nodes] = seats
        self.owner_of[seats] = nodes
        self.contacts[seats] = EMPTY
        return seats

    def unseat(self, nodes: Nodes) -> None:
        """Take the tables of nodes that are gone."""
        seats = self.seat_of[nodes]
        self.seat_of[nodes] = EMPTY
        self.owner_of[seats] = EMPTY
        self._free.extend(seats.tolist())

    def has_seat(self, node: int) -> bool:
        """Whether a node has a table."""
        return node < len(self.seat_of) and bool(self.seat_of[node] != EMPTY)

    def are_seated(self, count: int) -> Mask:
        """For each of so many nodes, by number, whether it has a table."""
        self._know(count)
        seated: Mask = self.seat_of[:count] != EMPTY
        return seated

    def contacts_of(self, node: int) -> Nodes:
        """All contacts of a node."""
        row = self.contacts[self.seat_of[node]].ravel()
        contacts: Nodes = row[row != EMPTY].astype(np.int64)
        return contacts

    def nearest(self, node: int, target: int, k: int) -> list[tuple[int, int]]:
        """The k contacts of a node that are nearest to an id, with their distances.

        Exactly as a walk over all of its contacts would find them. 8 µs where the
        bucket of the target is full.
        """
        id_of = self._people.id_of
        row = self.contacts[self.seat_of[node]]
        depth = min(ID_BITS - (id_of[node] ^ target).bit_length(), self.depths - 1)
        found = [
            (id_of[contact] ^ target, contact)
            for contact in row[depth].tolist()
            if contact >= 0
        ]
        if len(found) < k and depth + 1 < self.depths:
            deeper = row[depth + 1 :].ravel()
            for contact in deeper[deeper >= 0].tolist():
                found.append((id_of[contact] ^ target, contact))  # noqa: PERF401 - faster than extending by a generator
        found.sort()
        while len(found) < k and depth > 0:
            # Whoever shares fewer bits with us shares as few with the target.
            depth -= 1
            found += sorted(
                (id_of[contact] ^ target, contact)
                for contact in row[depth].tolist()
                if contact >= 0
            )
        return found[:k]

    def fill(self, nodes: Nodes, now: float, living: Living) -> tuple[Seats, Nodes]:
        """Fill all free places of these tables with random living nodes.

        Returns:
            The places that were filled, as positions in ``contacts`` taken flat, and
            who stands there now; as many.
        """
        seats = np.repeat(self.seat_of[nodes], self.depths)
        depths = np.tile(np.arange(self.depths), len(nodes))
        return self.fill_buckets(seats, depths, now, living)

    def fill_buckets(
        self,
        seats: Seats,
        depths: Seats,
        now: float,
        living: Living,
        *,
        heard_by: Seconds | None = None,
    ) -> tuple[Seats, Nodes]:
        """Fill the free places of these buckets, each named once, as `fill` does.

        Contacts are distinct, and any that the bucket may have are equally likely;
        the owner itself is none.

        Args:
            seats: of the buckets.
            depths: theirs; as many.
            now: since when they are known.
            living: who may be met.
            heard_by: for each bucket the last time that its owner looked around there:
                only those are found who were there then, and only where there were
                more than had room.
        """
        places, contacts = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        ranges = self._ranges(seats, depths, living)
        if heard_by is None:
            # Work is as wide as the widest range, so ranges of a kind go together.
            kinds = np.digitize(ranges.size, _WIDTHS)
        else:
            kinds = np.where(ranges.size > self.k, len(_WIDTHS), -1)
        for kind in range(len(_WIDTHS) + 1):
            chosen = np.flatnonzero(kinds == kind)
            for start in range(0, len(chosen), _CHUNK):
                some = chosen[start : start + _CHUNK]
                part = _Ranges(ranges.first[some], ranges.size[some])
                if heard_by is None:
                    drawn = self._draw(part, living)
                else:
                    drawn = self._draw_some(part, living, _TRIES)
                    is_late = self._people.starts[drawn] > heard_by[some, None]
                    drawn[is_late] = EMPTY
                place, contact = self._place(seats[some], depths[some], drawn)
                places.append(place)
                contacts.append(contact)
        place, contact = np.concatenate(places), np.concatenate(contacts)
        self.contacts.reshape(-1)[place] = contact
        self.since.reshape(-1)[place] = now
        return place, contact

    def offer(self, nodes: Nodes, contacts: Nodes, now: float) -> tuple[Seats, Nodes]:
        """Enter each contact at its node where its bucket has room and lacks it.

        Returns:
            The places that were taken, and by whom, as `fill` does.
        """
        seats = self.seat_of[nodes]
        ids = self._people.ids
        depths = np.minimum(shared_bits(ids[nodes], ids[contacts]), self.depths - 1)
        buckets = seats * self.depths + depths
        is_open = (seats != EMPTY) & (nodes != contacts)
        buckets, contacts = buckets[is_open], contacts[is_open]
        places, taken = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        rows = self.contacts.reshape(-1, self.k)
        while len(buckets):
            # One for each bucket at a time, so that no two take the same place.
            _, first = np.unique(buckets, return_index=True)
            row = rows[buckets[first]]
            has_room = (row == EMPTY).any(axis=1)
            has_room &= ~(row == contacts[first, None]).any(axis=1)
            chosen = first[has_room]
            free = np.argmax(row[has_room] == EMPTY, axis=1)
            place = buckets[chosen] * self.k + free
            self.contacts.reshape(-1)[place] = contacts[chosen]
            places.append(place)
            taken.append(contacts[chosen])
            buckets, contacts = np.delete(buckets, first), np.delete(contacts, first)
        place = np.concatenate(places)
        self.since.reshape(-1)[place] = now
        return place, np.concatenate(taken)

    def counts(self) -> npt.NDArray[np.int64]:
        """Contacts in each bucket; shape (seats, depths)."""
        counted: npt.NDArray[np.int64] = (self.contacts != EMPTY).sum(axis=2)
        return counted

    def _know(self, count: int) -> None:
        if count > len(self.seat_of):
            more = np.full(max(count - len(self.seat_of), 1024), EMPTY, np.int64)
            self.seat_of = np.concatenate([self.seat_of, more])

    def _grow(self, count: int) -> None:
        seats = len(self.owner_of)
        room = max(count, seats // 4)
        shape = (room, self.depths, self.k)
        self.contacts = np.concatenate([self.contacts, np.full(shape, EMPTY, np.int32)])
        self.since = np.concatenate([self.since, np.zeros(shape, np.float32)])
        self.owner_of = np.concatenate([self.owner_of, np.full(room, EMPTY, np.int64)])
        self._free = [*range(seats + room - 1, seats - 1, -1), *self._free]

    def _ranges(self, seats: Seats, depths: Seats, living: Living) -> _Ranges:
        """Where in the order of ids stand those whom each bucket may hold."""
        own = self._people.ids[self.owner_of[seats]]
        is_last = depths == self.depths - 1
        # All but the last bucket have the next bit other than ours.
        bits = (ID_BITS - 1 - depths + is_last).astype(np.uint64)
        flipped = np.where(is_last, np.uint64(0), _ONE << bits)
        base = (own ^ flipped) >> bits << bits
        last = base + ((_ONE << bits) - _ONE)
        first = np.searchsorted(living.ids, base)
        end = np.searchsorted(living.ids, last, side="right")
        return _Ranges(first, end - first)

    def _draw(self, ranges: _Ranges, living: Living) -> Nodes:
        """Candidates for each bucket in random order, or `EMPTY`; some come twice."""
        count = len(ranges.first)
        widest = int(ranges.size.max(initial=0))
        if not widest:
            return np.full((count, 1), EMPTY, np.int64)
        if widest >= _WIDTHS[-1]:
            return self._draw_some(ranges, living, self.k + _SPARE)
        keys = self._generator.random((count, widest), dtype=np.float32)
        keys[np.arange(widest) >= ranges.size[:, None]] = 2.0
        offsets = np.argsort(keys, axis=1)
        is_valid = offsets < ranges.size[:, None]
        at = np.where(is_valid, ranges.first[:, None] + offsets, 0)
        return np.where(is_valid, living.nodes[at], EMPTY)

    def _draw_some(self, ranges: _Ranges, living: Living, count: int) -> Nodes:
        """So many candidates for each bucket, none of whose ranges is empty."""
        drawn = self._generator.random((len(ranges.first), count))
        offsets = (drawn * ranges.size[:, None]).astype(np.int64)
        candidates: Nodes = living.nodes[ranges.first[:, None] + offsets]
        return candidates

    def _place(self, seats: Seats, depths: Seats, drawn: Nodes) -> tuple[Seats, Nodes]:
        """Match candidates with free places; those that fit."""
        rows = self.contacts[seats, depths]
        is_valid = (drawn != EMPTY) & (drawn != self.owner_of[seats][:, None])
        is_valid &= ~_is_repeated(drawn)
        if (rows != EMPTY).any():
            is_valid &= ~(drawn[:, :, None] == rows[:, None, :]).any(axis=2)
        order = np.argsort(~is_valid, axis=1, kind="stable")[:, : self.k]
        free = np.argsort(rows != EMPTY, axis=1, kind="stable")[:, : order.shape[1]]
        wanted = np.minimum((rows == EMPTY).sum(axis=1), is_valid.sum(axis=1))
        is_taken = np.arange(order.shape[1]) < wanted[:, None]
        first = (seats * self.depths + depths) * self.k
        places = (first[:, None] + free)[is_taken]
        return places, np.take_along_axis(drawn, order, axis=1)[is_taken]


def shared_bits(ones: Ids, others: Ids) -> Seats:
    """How many leading bits each pair of ids shares; 64 where they are the same."""
    away = ones ^ others
    # Halves, since a float holds no 64 bits; its exponent is the number of bits.
    upper = np.frexp((away >> np.uint64(32)).astype(np.float64))[1]
    lower = np.frexp((away & np.uint64(0xFFFF_FFFF)).astype(np.float64))[1]
    length = np.where(upper > 0, upper + 32, lower)
    return ID_BITS - length.astype(np.int64)


def _is_repeated(drawn: Nodes) -> Mask:
    """Which candidates of a bucket came before in the same row."""
    order = np.argsort(drawn, axis=1, kind="stable")
    ordered = np.take_along_axis(drawn, order, axis=1)
    is_same = np.zeros(drawn.shape, np.bool_)
    is_same[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    repeated = np.empty_like(is_same)
    np.put_along_axis(repeated, order, is_same, axis=1)
    return repeated
