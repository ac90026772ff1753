"""The iterative lookup: whom to ask next, and when the closest nodes are known.

Owns the candidates and their states. Refuses to know what is asked, how, and who is
let into the routing table.
"""

import bisect
import enum
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from opnode.core.addresses import is_public, subnet_group
from opnode.core.ids import Contact


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupConfig:
    """Limits of one lookup.

    Attributes:
        k: the closest nodes it ends with (Kademlia §2.3).
        alpha: queries in flight; 3 lets one slow node cost nothing.
        candidates: contacts remembered; ten buckets' worth is more than any honest
            lookup meets near its target.
        subnet_cap: candidates of one /24 or /48 that count; public addresses only.
    """

    k: int = 20
    alpha: int = 3
    candidates: int = 200
    subnet_cap: int = 2


class CandidateState(enum.Enum):
    """NEW → ASKED → ANSWERED or FAILED; SLOW lies between for stragglers."""

    NEW = enum.auto()
    ASKED = enum.auto()
    SLOW = enum.auto()
    ANSWERED = enum.auto()
    FAILED = enum.auto()


class _Candidate:
    __slots__ = ("contact", "group", "state")

    def __init__(self, contact: Contact) -> None:
        self.contact = contact
        self.group = _subnet_of(contact.endpoint.host)
        self.state = CandidateState.NEW


class Lookup:
    """One lookup of one target.

    Alpha queries are in flight at all times; there are no rounds. It is finished when
    the k closest candidates that are alive have all answered: not when the nearest
    few have, and not held up by stragglers, whose late answers still count.
    """

    def __init__(
        self,
        target: bytes,
        seeds: Iterable[Contact],
        config: LookupConfig | None = None,
    ) -> None:
        self._target = int.from_bytes(target, "big")
        self._config = config or LookupConfig()
        # By distance, then by arrival: one id may be claimed for several addresses.
        self._order: list[tuple[int, int, _Candidate]] = []
        self._candidates: dict[Contact, _Candidate] = {}
        self._arrived = 0
        self._in_flight = 0
        self._asked = 0
        self._add(seeds)

    @property
    def asked(self) -> int:
        """Queries handed out so far."""
        return self._asked

    @property
    def known(self) -> int:
        """Candidates heard of so far, whatever became of them."""
        return len(self._candidates)

    @property
    def finished(self) -> bool:
        """Whether the k closest candidates that are alive have all answered.

        While nobody at all has, stragglers are waited for: they are all there is.
        """
        alive = self._closest_alive()
        if not alive:
            return not self.has_stragglers
        return all(candidate.state is CandidateState.ANSWERED for candidate in alive)

    @property
    def has_stragglers(self) -> bool:
        """Whether late answers may still come."""
        return any(c.state is CandidateState.SLOW for c in self._candidates.values())

    def next_queries(self) -> list[Contact]:
        """Whom to ask now; each contact is handed out once."""
        free = self._config.alpha - self._in_flight
        if free <= 0:
            return []
        queries: list[Contact] = []
        for candidate in self._closest_alive():
            if candidate.state is not CandidateState.NEW:
                continue
            candidate.state = CandidateState.ASKED
            queries.append(candidate.contact)
            if len(queries) == free:
                break
        self._in_flight += len(queries)
        self._asked += len(queries)
        return queries

    def heard(self, contact: Contact, contacts: Iterable[Contact]) -> None:
        """A contact that was asked answered, and named others."""
        self._leave(contact, CandidateState.ANSWERED)
        self._add(contacts)

    def slow(self, contact: Contact) -> None:
        """A contact is late: its place in flight is free, its answer still counts."""
        candidate = self._candidates.get(contact)
        if candidate is not None and candidate.state is CandidateState.ASKED:
            self._leave(contact, CandidateState.SLOW)

    def failed(self, contact: Contact) -> None:
        """A contact will not answer."""
        self._leave(contact, CandidateState.FAILED)

    def closest(self) -> list[Contact]:
        """The closest contacts that answered, nearest first, at most k."""
        answered: list[Contact] = []
        ids: set[bytes] = set()
        for _, _, candidate in self._order:
            contact = candidate.contact
            if candidate.state is not CandidateState.ANSWERED or contact.node_id in ids:
                continue
            ids.add(contact.node_id)
            answered.append(contact)
            if len(answered) == self._config.k:
                break
        return answered

    def _leave(self, contact: Contact, state: CandidateState) -> None:
        candidate = self._candidates.get(contact)
        if candidate is None:
            return
        if candidate.state is CandidateState.ASKED:
            self._in_flight -= 1
        candidate.state = state

    def _add(self, contacts: Iterable[Contact]) -> None:
        for contact in contacts:
            if contact in self._candidates:
                continue
            candidate = _Candidate(contact)
            distance = int.from_bytes(contact.node_id, "big") ^ self._target
            self._arrived += 1
            bisect.insort(self._order, (distance, self._arrived, candidate))
            self._candidates[contact] = candidate
        while len(self._order) > self._config.candidates:
            self._forget_farthest()

    def _forget_farthest(self) -> None:
        """Drop the farthest candidate that was not asked; a newcomer is one."""
        index = max(
            place
            for place, (_, _, candidate) in enumerate(self._order)
            if candidate.state is CandidateState.NEW
        )
        candidate = self._order.pop(index)[2]
        del self._candidates[candidate.contact]

    def _closest_alive(self) -> list[_Candidate]:
        """The k closest that neither failed nor are late, within the subnet cap."""
        alive: list[_Candidate] = []
        groups: dict[bytes, int] = {}
        for _, _, candidate in self._order:
            if candidate.state in _NOT_ALIVE:
                continue
            if candidate.group is not None:
                count = groups.get(candidate.group, 0)
                if count >= self._config.subnet_cap:
                    continue
                groups[candidate.group] = count + 1
            alive.append(candidate)
            if len(alive) == self._config.k:
                break
        return alive


_NOT_ALIVE = (CandidateState.FAILED, CandidateState.SLOW)


@lru_cache(maxsize=4096)
def _subnet_of(host: str) -> bytes | None:
    return subnet_group(host) if is_public(host) else None
