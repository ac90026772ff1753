"""Searches under way: a lookup over RPC.

Owns the link between the lookup machine and requests. Refuses to know the routing
table, what is asked and what its answers mean, and when a search is due.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import NetworkError, RequestRefused, RequestTimeout
from opnode.core.ids import Contact
from opnode.drivers.dht.batch import FEW
from opnode.drivers.dht.suspects import Suspects
from opnode.drivers.rpc.exchange import Answer, Exchange
from opnode.drivers.rpc.rpc import Rpc
from opnode.protocols.lookup.lookup import Lookup, Query
from opnode.protocols.rpc.messages import (
    FindNode,
    FindValue,
    Nodes,
    Ping,
    Pong,
    Reply,
    Request,
    Store,
    Stored,
    Values,
)

if TYPE_CHECKING:
    from opnode.drivers.dht.tracing import Recorder

ContactReader = Callable[[Endpoint, Iterable[bytes]], list[Contact]]
"""Turns the packed contacts that a node named into those worth asking."""

_Answer: TypeAlias = Nodes | Values | Stored | Pong
_REPLIES: Final[dict[type, type]] = {
    FindNode: Nodes,
    FindValue: Values,
    Store: Stored,
    Ping: Pong,
}


class Errand(Protocol):
    """What a search asks, and what it makes of the answers. All must be quick."""

    def question(self, query: Query) -> Request:
        """What to ask this contact: FIND_NODE, FIND_VALUE, STORE; PING to meet it."""
        ...

    def answered(self, contact: Contact, asked: Request, reply: Reply) -> bool:
        """Take an answer of the right kind; whether to ask no further."""
        ...

    def refused(self, contact: Contact, asked: Request, error: RequestRefused) -> bool:
        """Take a refusal; whether the node is a good one all the same."""
        ...


class Search:
    """One lookup under way.

    Every step runs inside the reader that brought the answer: no task is switched
    between an answer and the next question.

    Attributes:
        lookup: the machine.
        waits_for_stragglers: whether late answers are waited for at the end.
        is_stopped: the errand wants no more; what is under way is still taken.
        is_for_another: somebody else chose the key, so where it leads is no evidence,
            and nothing large is sent to whom it names.
        recorder: hears of every step, if there is one.
    """

    def __init__(
        self,
        rpc: Rpc,
        lookup: Lookup,
        errand: Errand,
        read_contacts: ContactReader,
        suspects: Suspects,
    ) -> None:
        self.lookup = lookup
        self.waits_for_stragglers = False
        self.is_stopped = False
        self.is_for_another = False
        self.recorder: Recorder | None = None
        self._rpc = rpc
        self._errand = errand
        self._read_contacts = read_contacts
        self._suspects = suspects
        self._under_way: dict[_Step, Exchange] = {}
        self._seen: set[bytes] = set()
        self._held_back: list[tuple[Contact, _Answer]] = []
        self._extra = 0
        self._is_closed = False
        self._is_paced = False
        self._done = trio.Event()

    @property
    def is_done(self) -> bool:
        """Whether the closest nodes are known, or the errand wants no more."""
        return self._done.is_set()

    async def run(self) -> None:
        """Search until the closest nodes are known or the errand wants no more."""
        self.advance()
        await self._done.wait()

    def close(self) -> None:
        """Ask no more and forget what is under way.

        Those who are late may still answer or fail: both are worth knowing.
        """
        self._is_closed = True
        for step, exchange in self._under_way.items():
            if not step.is_slow:
                self._rpc.cancel(exchange)
        self._under_way.clear()

    def resume(self) -> None:
        """Go on after the errand had what it wanted, only as fast as ``step``."""
        self.is_stopped = False
        self._is_paced = True
        self._done = trio.Event()
        for contact, body in self._held_back:
            self._hear(contact, body)
        self._held_back.clear()

    def step(self) -> None:
        """Ask one more of a search that was resumed."""
        self._ask_next(1)
        self._finish()

    def advance(self) -> None:
        """Ask whoever is next, or finish."""
        if self.is_stopped or self._done.is_set():
            return
        if not self._is_paced:
            self._ask_next(None)
        self._finish()

    def ask_more(self, contact: Contact, body: Request) -> None:
        """Ask a contact for the rest of its answer, beside the lookup."""
        if not self._is_closed and self._ask(contact, body, is_extra=True):
            self._extra += 1

    def answered(self, step: "_Step", answer: Answer) -> None:
        """Take an answer; wrong kinds and changed ids count as none."""
        contact, asked, body = step.contact, step.body, answer.body
        self._suspects.clear(contact.endpoint)
        if self._is_closed:
            return
        self._leave(step)
        if answer.contact != contact or type(body) is not _REPLIES[type(asked)]:
            if not step.is_extra:
                self.lookup.failed(contact)
        else:
            assert isinstance(body, Nodes | Values | Stored | Pong)
            if self._errand.answered(contact, asked, body) and not self._is_paced:
                self.is_stopped = True
                self._done.set()
            if not step.is_extra:
                self._take(contact, body)
        self.advance()

    def slow(self, step: "_Step") -> None:
        """A contact is late; go on without it."""
        step.is_slow = True
        self._suspects.add(step.contact.endpoint)
        if not self._is_closed:
            self.lookup.slow(step.contact)
            self.advance()

    def failed(self, step: "_Step", error: NetworkError) -> None:
        """A contact did not answer, or refused."""
        contact = step.contact
        is_refusal = isinstance(error, RequestRefused)
        if is_refusal:
            self._suspects.clear(contact.endpoint)
        if self._is_closed:
            return
        self._leave(step)
        is_good = isinstance(error, RequestRefused) and self._errand.refused(
            contact, step.body, error
        )
        if not step.is_extra:
            if is_good:
                self.lookup.heard(contact, ())
            else:
                self.lookup.failed(contact)
        self.advance()

    def _take(self, contact: Contact, body: _Answer) -> None:
        """Learn from an answer; of a search that is over perhaps only later."""
        if self.is_stopped:
            self._held_back.append((contact, body))
        else:
            self._hear(contact, body)

    def _hear(self, contact: Contact, body: _Answer) -> None:
        known = self.lookup.known
        packed = () if isinstance(body, Pong) else body.contacts
        self.lookup.heard(contact, self._named(contact, packed))
        if self.recorder is not None:
            records = len(body.records) if isinstance(body, Values) else 0
            named = self.lookup.known - known
            self.recorder.answered(contact, named=named, records=records)

    def _finish(self) -> None:
        lookup = self.lookup
        waits = self._extra or (self.waits_for_stragglers and lookup.has_stragglers)
        if lookup.finished and not waits:
            self._done.set()

    def _ask_next(self, most: int | None) -> None:
        lookup, question = self.lookup, self._errand.question
        while queries := lookup.next_queries(most):
            is_asked = True
            for query in queries:
                if self.recorder is not None:
                    self.recorder.asked(query.contact)
                if not self._ask(query.contact, question(query), is_extra=False):
                    is_asked = False
                    lookup.failed(query.contact)
            if is_asked:
                # All places are taken, or nobody is left to ask.
                return

    def _ask(self, contact: Contact, body: Request, *, is_extra: bool) -> bool:
        step = _Step(self, contact, body, is_extra)
        is_patient = self.lookup.known <= FEW
        try:
            self._under_way[step] = self._rpc.start(
                contact.endpoint,
                body,
                step,
                is_patient=is_patient,
                is_for_another=self.is_for_another,
            )
        except RequestTimeout:
            # Too many requests under way in the whole node.
            return False
        return True

    def _named(self, contact: Contact, packed: Iterable[bytes]) -> list[Contact]:
        """The contacts not heard of before: near the end nearly all answers repeat."""
        seen = self._seen
        fresh = [data for data in packed if data not in seen]
        if not fresh:
            return []
        named = self._read_contacts(contact.endpoint, fresh)
        if len(named) == len(fresh):
            # What one may not name, another may: only the accepted are known.
            seen.update(fresh)
        return named

    def _leave(self, step: "_Step") -> None:
        self._under_way.pop(step, None)
        self._extra -= step.is_extra


class _Step:
    """The listener of one lookup step."""

    __slots__ = ("body", "contact", "is_extra", "is_slow", "search")

    def __init__(
        self, search: Search, contact: Contact, body: Request, is_extra: bool
    ) -> None:
        self.search = search
        self.contact = contact
        self.body = body
        self.is_extra = is_extra
        self.is_slow = False

    def answered(self, answer: Answer) -> None:
        self.search.answered(self, answer)

    def slow(self) -> None:
        self.search.slow(self)

    def failed(self, error: NetworkError) -> None:
        self.search.failed(self, error)
