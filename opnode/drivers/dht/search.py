"""Searches under way: a lookup over RPC, a batch of requests, the records collected.

Owns the link between the lookup machine and requests, and the verification of what is
found. Refuses to know the routing table and when a search is due.
"""

from collections.abc import Callable, Iterable
from typing import Final

import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import NetworkError, RecordError, RequestTimeout
from opnode.core.ids import Contact
from opnode.core.peerfile import verify_record_untrusted
from opnode.core.records import SignedRecord, check_supersedes, slot_of
from opnode.drivers.rpc.exchange import Answer, Exchange
from opnode.drivers.rpc.rpc import Rpc
from opnode.protocols.lookup import Lookup
from opnode.protocols.rpc.messages import Nodes, Reply, Request, Values

FEW: Final = 3
"""With no more nodes than this to ask, nobody answers in the place of one whose
datagrams were lost: each is asked patiently. As many as a lookup asks at once."""

ContactReader = Callable[[Endpoint, Iterable[bytes]], list[Contact]]
"""Turns the packed contacts that a node named into those worth asking."""


class Search:
    """One lookup under way.

    Every step runs inside the reader that brought the answer: no task is switched
    between an answer and the next question.
    """

    def __init__(
        self,
        rpc: Rpc,
        lookup: Lookup,
        body: Request,
        read_contacts: ContactReader,
    ) -> None:
        self.lookup = lookup
        self.on_values: Callable[[Contact, Request, Values], bool] | None = None
        self.waits_for_stragglers = False
        self._rpc = rpc
        self._body = body
        self._read_contacts = read_contacts
        self._under_way: dict[_Query, Exchange] = {}
        self._extra = 0
        self._done = trio.Event()

    async def run(self) -> None:
        """Search until the closest nodes are known or ``on_values`` said stop."""
        try:
            self.advance()
            await self._done.wait()
        finally:
            for exchange in self._under_way.values():
                self._rpc.cancel(exchange)
            self._under_way.clear()

    def advance(self) -> None:
        """Ask whoever is next, or finish."""
        if self._done.is_set():
            return
        lookup = self.lookup
        while queries := lookup.next_queries():
            for contact in queries:
                if not self._ask(contact, self._body):
                    lookup.failed(contact)
        waits = self._extra or (self.waits_for_stragglers and lookup.has_stragglers)
        if lookup.finished and not waits:
            self._done.set()

    def answered(self, query: "_Query", answer: Answer) -> None:
        """Take an answer; wrong kinds and changed ids count as none."""
        contact, asked, body = query.contact, query.body, answer.body
        is_extra = self._leave(query)
        if self._done.is_set():
            return
        if answer.contact != contact or not isinstance(body, Nodes | Values):
            self.lookup.failed(contact)
        else:
            named = self._read_contacts(contact.endpoint, body.contacts)
            self.lookup.heard(contact, () if is_extra else named)
            if isinstance(body, Values) and self._take(contact, asked, body):
                self._done.set()
                return
        self.advance()

    def failed(self, query: "_Query") -> None:
        """A contact did not answer, or refused."""
        if not self._leave(query):
            self.lookup.failed(query.contact)
        self.advance()

    def _take(self, contact: Contact, asked: Request, values: Values) -> bool:
        return self.on_values is not None and self.on_values(contact, asked, values)

    def ask_more(self, contact: Contact, body: Request) -> None:
        """Ask a contact for the rest of its answer, beside the lookup."""
        if self._ask(contact, body):
            self._extra += 1

    def _ask(self, contact: Contact, body: Request) -> bool:
        query = _Query(self, contact, body)
        is_patient = self.lookup.known <= FEW
        try:
            self._under_way[query] = self._rpc.start(
                contact.endpoint, body, query, is_patient=is_patient
            )
        except RequestTimeout:
            # Too many requests under way in the whole node.
            return False
        return True

    def _leave(self, query: "_Query") -> bool:
        """Forget a query; whether it was one of ``ask_more``."""
        self._under_way.pop(query, None)
        is_extra = query.body is not self._body
        if is_extra:
            self._extra -= 1
        return is_extra


class _Query:
    """The listener of one lookup step."""

    __slots__ = ("body", "contact", "search")

    def __init__(self, search: Search, contact: Contact, body: Request) -> None:
        self.search = search
        self.contact = contact
        self.body = body

    def answered(self, answer: Answer) -> None:
        self.search.answered(self, answer)

    def slow(self) -> None:
        self.search.lookup.slow(self.contact)
        self.search.advance()

    def failed(self, error: NetworkError) -> None:
        del error
        self.search.failed(self)


class Batch:
    """Requests sent at once to several contacts, and what came back."""

    def __init__(self, rpc: Rpc) -> None:
        self.answers: list[tuple[Contact, Request, Reply]] = []
        self.errors: list[tuple[Contact, NetworkError]] = []
        self._rpc = rpc
        self._under_way: dict[_Question, Exchange] = {}
        self._done = trio.Event()

    async def run(self, questions: Iterable[tuple[Contact, Request]]) -> None:
        """Ask all and wait until every request is over."""
        asked = list(questions)
        try:
            for contact, body in asked:
                self._ask(contact, body, is_patient=len(asked) <= FEW)
            if self._under_way:
                await self._done.wait()
            else:
                await trio.lowlevel.checkpoint()
        finally:
            for exchange in self._under_way.values():
                self._rpc.cancel(exchange)

    def settle(self, question: "_Question") -> None:
        """One more request is over."""
        del self._under_way[question]
        if not self._under_way:
            self._done.set()

    def _ask(self, contact: Contact, body: Request, *, is_patient: bool) -> None:
        question = _Question(self, contact, body)
        try:
            exchange = self._rpc.start(
                contact.endpoint, body, question, is_patient=is_patient
            )
        except RequestTimeout as error:
            self.errors.append((contact, error))
        else:
            self._under_way[question] = exchange


class _Question:
    """The listener of one request of a batch."""

    __slots__ = ("batch", "body", "contact")

    def __init__(self, batch: Batch, contact: Contact, body: Request) -> None:
        self.batch = batch
        self.contact = contact
        self.body = body

    def answered(self, answer: Answer) -> None:
        self.batch.answers.append((self.contact, self.body, answer.body))
        self.batch.settle(self)

    def slow(self) -> None:
        """The others go on anyway."""

    def failed(self, error: NetworkError) -> None:
        self.batch.errors.append((self.contact, error))
        self.batch.settle(self)


class Collection:
    """Verified records of one key: the highest sequence number of each slot."""

    def __init__(self, key: bytes, wall_now: float) -> None:
        self.best: dict[tuple[int, bytes], SignedRecord] = {}
        self.bad = 0
        self._key = key
        self._wall_now = wall_now
        self._seen: dict[bytes, SignedRecord | None] = {}

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
        if record.key == self._key:
            return record
        self.bad += 1
        return None

    def add(self, record: SignedRecord) -> None:
        """Keep a verified record if it is the newest of its slot."""
        slot = slot_of(record)
        held = self.best.get(slot)
        if held is not None:
            try:
                check_supersedes(record, held)
            except RecordError:
                # Of two that claim one number, the one heard first stays.
                return
        self.best[slot] = record

    def records(self) -> list[SignedRecord]:
        """The best of each slot, unless its owner took it back."""
        return [record for record in self.best.values() if not record.is_withdrawal]

    def newest(self) -> list[SignedRecord]:
        """The best of each slot, withdrawals too: what holders should have."""
        return list(self.best.values())
