"""The iterative lookup: whom to ask next, and when the region of a key is known.

Owns the candidates, their paths and the end. Refuses to know what is asked, how, and
who is let into the routing table.
"""

import bisect
import heapq
from collections import deque
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from opnode.core.addresses import Endpoint
from opnode.core.ids import Contact
from opnode.protocols.lookup.candidates import Candidate, CandidateState
from opnode.protocols.lookup.config import LookupConfig
from opnode.protocols.lookup.pace import Pace
from opnode.protocols.lookup.region import Region

_NEW: Final = CandidateState.NEW
_ASKED: Final = CandidateState.ASKED
_ANSWERED: Final = CandidateState.ANSWERED
_SLOW: Final = CandidateState.SLOW
_FAILED: Final = CandidateState.FAILED
_SUSPECT: Final = CandidateState.SUSPECT
_SURPLUS: Final = CandidateState.SURPLUS


class Query(NamedTuple):
    """Whom to ask, and for the neighbours of which id.

    Attributes:
        contact: whom.
        near: 20 bytes; the target, or another point of its region.
        is_holder: the contact lies in the region, or is of the k closest where all
            known members of the region have answered: what is put belongs there.
    """

    contact: Contact
    near: bytes
    is_holder: bool


class _Path:
    """One of the disjoint paths: how much it holds, and its share of the region."""

    __slots__ = ("_added", "_nearest", "_oldest", "asked", "held", "wanted")

    def __init__(self) -> None:
        self.held = 0
        self.asked = 0
        self._added = 0
        # Members to be asked, each in both: a heap by distance, and the order in which
        # they were named.
        self._nearest: list[tuple[int, int, Candidate]] = []
        self._oldest: deque[Candidate] = deque()
        # Others to be asked, nearest first; of the last survey.
        self.wanted: deque[Candidate] = deque()

    @property
    def is_homing(self) -> bool:
        """Whether its next question goes for the target, not for all of the region."""
        return self.asked % 2 == 0

    def add_member(self, candidate: Candidate) -> None:
        """Take in a member of the region that is to be asked."""
        self._added += 1
        # Never compares candidates: the count before them is different for each.
        heapq.heappush(self._nearest, (candidate.distance, self._added, candidate))
        self._oldest.append(candidate)

    def next_member(self) -> Candidate | None:
        """The nearest and the one named first, in turn.

        Were it the nearest alone, whoever makes up more and more of them would be all
        that is asked; the first alone, a region that was guessed too large would use
        up the questions far from the target.
        """
        while self._oldest and self._nearest:
            if self.is_homing:
                candidate = heapq.heappop(self._nearest)[2]
            else:
                candidate = self._oldest.popleft()
            if candidate.state is _NEW:
                return candidate
        return None


class Lookup:
    """One lookup of one target.

    Queries are in flight at all times; there are no rounds. Candidates belong to the
    path that named them first, and paths take turns, so that no liar decides about
    more than its own path. It is finished when every live candidate in the region has
    answered, and the k closest that are alive have too: not when the nearest few have,
    and not held up by stragglers, whose late answers still count.

    Attributes:
        region: the ids whose nodes are all asked.
        asks_region_at_once: its members are to be asked anyway, so alpha does not
            count there, and others are asked when the members that are known have
            answered. For puts and whole reads; a search may end at the first.
        members_wanted: so many answers of members are enough, and no more members are
            asked than are missing; None where all are wanted. Alpha contacts of our own
            are asked first, and all are waited for, so that no single one of them
            decides whom we meet.
    """

    def __init__(
        self,
        seeds: Iterable[Contact],
        region: Region,
        config: LookupConfig | None = None,
        *,
        suspects: Collection[Endpoint] = (),
    ) -> None:
        """Start from contacts of ours.

        Args:
            seeds: nearest first; they are dealt to the paths.
            region: of the target.
            config: limits.
            suspects: addresses that failed lately, to be asked last.
        """
        self.region = region
        self.asks_region_at_once = False
        self.members_wanted: int | None = None
        self._config = config or LookupConfig()
        self._suspects = suspects
        self._pace = Pace(self._config.alpha, self._config.alpha_most)
        self._paths = [_Path() for _ in range(self._config.paths)]
        self._turn = 0
        # By distance, then by arrival: one id may be claimed for several addresses.
        self._order: list[tuple[int, int, Candidate]] = []
        self._candidates: dict[Contact, Candidate] = {}
        self._asked: list[Candidate] = []
        self._in_flight = self._stragglers = 0
        self._has_members = False
        self._members_in_flight = self._members_answered = 0
        # Candidates in the region that are to be asked or have to answer.
        self._open_inside = 0
        self._groups: dict[bytes, int] = {}
        self._surplus: list[Candidate] = []
        self._is_surveyed = False
        self._is_settled = False
        self._dealt = 0
        self._last_path = -1
        # A search that ends at its first answer never looks at the others.
        self._seeds = list(seeds)
        self._deal(self._config.paths)

    @property
    def asked(self) -> int:
        """Queries handed out so far."""
        return len(self._asked)

    @property
    def known(self) -> int:
        """Candidates heard of so far, whatever became of them."""
        return len(self._candidates) + len(self._seeds) - self._dealt

    @property
    def knows_enough(self) -> bool:
        """Whether as many members are known as are wanted: nobody has to name more."""
        if self.members_wanted is None:
            return False
        return self._open_inside + self._members_answered >= self.members_wanted

    @property
    def has_stragglers(self) -> bool:
        """Whether late answers may still come."""
        return self._stragglers > 0

    @property
    def finished(self) -> bool:
        """Whether the region and the k closest that are alive have all answered.

        While nobody at all has, stragglers are waited for: they are all there is.
        """
        if len(self._asked) >= self._config.queries:
            return not self._in_flight
        wanted = self.members_wanted
        if wanted is not None and self._members_answered >= wanted:
            return True
        if self._open_inside:
            return False
        self._deal()
        self._survey()
        return self._is_settled

    def candidates(self) -> list[Candidate]:
        """Those who were asked, in that order; for whoever shows the way taken."""
        return list(self._asked)

    def next_queries(self, most: int | None = None) -> list[Query]:
        """Whom to ask now; each contact is handed out once."""
        if self._asked or self.asks_region_at_once:
            self._deal()
        left = self._config.queries - len(self._asked)
        if most is not None:
            left = min(left, most)
        queries: list[Query] = []
        while left > len(queries):
            candidate = self._pick()
            if candidate is not None:
                queries.append(self._ask(candidate))
            elif self._in_flight >= self._pace.alpha or not self._deal():
                break
        return queries

    def heard(self, contact: Contact, contacts: Iterable[Contact]) -> None:
        """A contact that was asked answered, and named others."""
        candidate = self._candidates.get(contact)
        if candidate is None:
            return
        self._has_members = self._has_members or candidate.is_inside
        if candidate.state is _ASKED:
            self._pace.answered()
        elif candidate.state is _SLOW:
            self._count_group(candidate, 1)
        self._leave(candidate, _ANSWERED)
        self._add(contacts, candidate)

    def slow(self, contact: Contact) -> None:
        """A contact is late: its place in flight is free, its answer still counts."""
        candidate = self._candidates.get(contact)
        if candidate is not None and candidate.state is _ASKED:
            self._pace.missed()
            self._leave(candidate, _SLOW)
            self._stragglers += 1
            self._count_group(candidate, -1)

    def failed(self, contact: Contact) -> None:
        """A contact will not answer."""
        candidate = self._candidates.get(contact)
        if candidate is None:
            return
        if candidate.state is _ASKED:
            self._pace.missed()
            self._count_group(candidate, -1)
        self._leave(candidate, _FAILED)

    def closest(self) -> list[Contact]:
        """The closest contacts that answered, nearest first, at most k."""
        return self._answered(0)

    def holders(self) -> list[Contact]:
        """All that answered in the region, and the k closest; nearest first."""
        return self._answered(self.region.radius)

    def _answered(self, radius: int) -> list[Contact]:
        answered: list[Contact] = []
        ids: set[bytes] = set()
        k = self._config.k
        for distance, _, candidate in self._order:
            if distance >= radius and len(answered) >= k:
                break
            contact = candidate.contact
            if candidate.state is _ANSWERED and contact.node_id not in ids:
                ids.add(contact.node_id)
                answered.append(contact)
        return answered

    def _pick(self) -> Candidate | None:
        """Who is next: paths take turns, members of the region go first in each."""
        may_go_inside, has_room = self._room()
        if not (has_room or may_go_inside):
            return None
        if has_room:
            self._survey()
        for _ in self._paths:
            path = self._paths[self._turn]
            self._turn = (self._turn + 1) % len(self._paths)
            if may_go_inside and (member := self._next_member(path)):
                return member
            while has_room and path.wanted:
                candidate = path.wanted.popleft()
                if candidate.state in _ASKABLE:
                    return candidate
        return None

    def _room(self) -> tuple[bool, bool]:
        """Whether one more may be asked, inside of the region and outside."""
        inside = outside = self._in_flight < self._pace.alpha
        if self.members_wanted is not None:
            if self._members_answered + self._members_in_flight >= self.members_wanted:
                return False, False
            if len(self._asked) < self._config.alpha:
                return inside, outside
            if any(c.named_by is None and c.state is _ASKED for c in self._asked):
                return False, False
        if self.asks_region_at_once:
            inside = self._in_flight < self._config.region_alpha
            # Members may name nearer ones than the best of the others.
            if self._has_members:
                outside = inside
            outside = outside and not self._open_inside
        return inside, outside

    def _next_member(self, path: _Path) -> Candidate | None:
        while candidate := path.next_member():
            if not self._is_capped(candidate):
                return candidate
            candidate.become(_SURPLUS)
            self._surplus.append(candidate)
            self._open_inside -= 1
            self._is_surveyed = False
        return None

    def _ask(self, candidate: Candidate) -> Query:
        path = self._paths[candidate.path]
        near = self.region.points[0]
        if not path.is_homing:
            rings = self.region.points[1:] or self.region.points
            near = rings[(candidate.path + path.asked // 2) % len(rings)]
        path.asked += 1
        if candidate.is_inside and candidate.state is _SUSPECT:
            self._open_inside += 1
        candidate.become(_ASKED)
        self._asked.append(candidate)
        self._in_flight += 1
        self._members_in_flight += candidate.is_inside
        self._count_group(candidate, 1)
        is_next_best = self._has_members and not self._open_inside
        return Query(candidate.contact, near, candidate.is_inside or is_next_best)

    def _leave(self, candidate: Candidate, state: CandidateState) -> None:
        if candidate.state is _ASKED:
            self._in_flight -= 1
            self._open_inside -= candidate.is_inside
            self._members_in_flight -= candidate.is_inside
        elif candidate.state is _SLOW:
            self._stragglers -= 1
        if state is _ANSWERED and candidate.state is not _ANSWERED:
            self._members_answered += candidate.is_inside
        candidate.become(state)
        self._is_surveyed = False

    def _deal(self, most: int | None = None) -> bool:
        """Deal our own contacts to the paths, so many or all; whether any was left."""
        if self._dealt >= len(self._seeds):
            return False
        seeds = self._seeds[self._dealt : most]
        self._dealt += len(seeds)
        self._add(seeds, None)
        return True

    def _add(self, contacts: Iterable[Contact], named_by: Candidate | None) -> None:
        """Take in who was named; our own contacts go to one path after the other.

        Every first answer brings twenty: one loop, 1 µs for each of them.
        """
        known, order, paths = self._candidates, self._order, self._paths
        target, radius = self.region.target, self.region.radius
        most = self._config.path_candidates
        number = named_by.path if named_by is not None else self._last_path
        self._is_surveyed = False
        for contact in contacts:
            if contact in known:
                continue
            if named_by is None:
                self._last_path = number = (number + 1) % len(paths)
            path = paths[number]
            if path.held >= most:
                continue
            path.held += 1
            distance = int.from_bytes(contact.node_id, "big") ^ target
            known[contact] = candidate = Candidate(contact, distance, number, named_by)
            # Never compares candidates: the count before them is different for each.
            bisect.insort(order, (distance, len(known), candidate))
            candidate.is_inside = distance < radius
            if self._suspects and contact.endpoint in self._suspects:
                candidate.become(_SUSPECT)
            elif candidate.is_inside:
                path.add_member(candidate)
                self._open_inside += 1

    def _survey(self) -> None:
        """See who outside the region is to be asked, and whether all is known."""
        if self._is_surveyed:
            return
        self._is_surveyed = True
        for path in self._paths:
            path.wanted.clear()
        alive = self._closest_alive()
        self._is_settled = True
        for candidate in alive:
            self._want(candidate)
        arrived: set[int] = set()
        if not self._is_crowded(alive):
            # Who has somebody among the closest has arrived. The others go on, or a
            # gang whose members name each other would end all paths.
            arrived.update(candidate.path for candidate in alive)
        if len(arrived) < len(self._paths) and len(alive) >= len(self._paths):
            for candidate in self._nearest_outside():
                if candidate.path not in arrived:
                    self._want(candidate)
        if self._is_settled and len(alive) < self._config.k and not self._open_inside:
            self._trust_suspects(self._config.k - len(alive))
        if self._is_settled and not alive:
            self._is_settled = not self._stragglers

    def _want(self, candidate: Candidate) -> None:
        """Have it answer before the end."""
        if candidate.state is not _ANSWERED:
            self._is_settled = False
            if candidate.state is not _ASKED and not candidate.is_inside:
                self._paths[candidate.path].wanted.append(candidate)

    def _closest_alive(self) -> list[Candidate]:
        """The k closest that may yet answer or have, within the subnet cap."""
        alive: list[Candidate] = []
        groups: dict[bytes, int] = {}
        k = self._config.k
        for _, _, candidate in self._order:
            if not candidate.may_answer:
                continue
            group = candidate.group
            if group is not None and candidate.state is _NEW:
                groups[group] = count = groups.get(group, 0) + 1
                if count + self._groups.get(group, 0) > self._config.subnet_cap:
                    continue
            alive.append(candidate)
            if len(alive) == k:
                break
        return alive

    def _is_crowded(self, alive: list[Candidate]) -> bool:
        """Whether half of the k closest lie where chance puts a quarter of them.

        Ids ground next to the target do: their neighbours may name nobody else. So
        each path also asks the nearest that it knows outside the region, and with it
        comes nearer to the honest members, whatever it is told about the target.
        """
        half = self._config.k // 2
        return len(alive) > half and alive[half].distance < self.region.crowd_radius

    def _nearest_outside(self) -> list[Candidate]:
        """For each path the nearest that is alive and not in the region."""
        missing = set(range(len(self._paths)))
        nearest: list[Candidate] = []
        start = bisect.bisect_left(self._order, (self.region.radius,))
        for _, _, candidate in self._order[start:]:
            if candidate.path not in missing or not candidate.may_answer:
                continue
            if candidate.state is _NEW and self._is_capped(candidate):
                continue
            missing.discard(candidate.path)
            nearest.append(candidate)
            if not missing:
                break
        return nearest

    def _trust_suspects(self, count: int) -> None:
        """There are too few others: ask so many of those that failed lately."""
        for _, _, candidate in self._order:
            if candidate.state is _SUSPECT and count:
                self._paths[candidate.path].wanted.append(candidate)
                self._is_settled = False
                count -= 1

    def _is_capped(self, candidate: Candidate) -> bool:
        group = candidate.group
        return (
            group is not None and self._groups.get(group, 0) >= self._config.subnet_cap
        )

    def _count_group(self, candidate: Candidate, change: int) -> None:
        """Keep count of the subnet's members that are asked or alive."""
        group = candidate.group
        if group is None:
            return
        self._groups[group] = self._groups.get(group, 0) + change
        if change > 0:
            return
        for number, other in enumerate(self._surplus):
            if other.group == group:
                del self._surplus[number]
                other.become(_NEW)
                self._open_inside += 1
                self._paths[other.path].add_member(other)
                return


_ASKABLE: Final = (_NEW, _SUSPECT)
