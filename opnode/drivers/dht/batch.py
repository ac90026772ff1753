"""Requests sent at once to several contacts.

Owns the wait for all of them. Refuses to know whom to ask and why.
"""

from collections.abc import Iterable
from typing import Final

import trio

from opnode.core.errors import NetworkError, RequestTimeout
from opnode.core.ids import Contact
from opnode.drivers.rpc.exchange import Answer, Exchange
from opnode.drivers.rpc.rpc import Rpc
from opnode.protocols.rpc.messages import Reply, Request

FEW: Final = 3
"""With no more nodes than this to ask, nobody answers in the place of one whose
datagrams were lost: each is asked patiently. As many as a lookup asks at once."""


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
