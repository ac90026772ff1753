"""Questions to single nodes about one record: do you take it, do you have it?

Owns asking some nodes alone, without a lookup, and naming each one's answer. Refuses to
know why somebody asks.
"""

from collections.abc import Sequence
from typing import NamedTuple

from opnode.core.errors import RequestRefused
from opnode.core.ids import Contact
from opnode.core.records import SignedRecord
from opnode.drivers.dht.lookups import Lookups
from opnode.protocols.rpc.messages import (
    FailureCode,
    FindValue,
    Store,
    Stored,
    Values,
)


class PutAnswer(NamedTuple):
    """What one node made of a record.

    Attributes:
        contact: the node.
        took: it holds the record now.
        refusal: the name of its refusal in lower case; None if it took the record, or
            did not answer.
    """

    contact: Contact
    took: bool
    refusal: str | None


class Prober:
    """Asks single nodes."""

    def __init__(self, lookups: Lookups) -> None:
        """Ask over the same RPC as the lookups do."""
        self._lookups = lookups

    async def offer(
        self, record: SignedRecord, contacts: Sequence[Contact]
    ) -> list[PutAnswer]:
        """Offer a record to each of these nodes; an answer for each, in any order."""
        body = Store(record.wire)
        batch = await self._lookups.ask_all((contact, body) for contact in contacts)
        answers = [
            PutAnswer(contact, isinstance(reply, Stored), None)
            for contact, _, reply in batch.answers
        ]
        for contact, error in batch.errors:
            refusal: str | None = None
            if isinstance(error, RequestRefused):
                refusal = refusal_name(error.code)
            answers.append(PutAnswer(contact, took=False, refusal=refusal))
        return answers

    async def holders(
        self, record: SignedRecord, contacts: Sequence[Contact]
    ) -> list[Contact]:
        """Those of these nodes that hand out exactly this record when asked for it."""
        body = FindValue(record.key)
        batch = await self._lookups.ask_all((contact, body) for contact in contacts)
        return [
            contact
            for contact, _, reply in batch.answers
            if isinstance(reply, Values) and record.wire in reply.records
        ]


def refusal_name(code: int) -> str:
    """Name a refusal for people: ``expired record``; unknown ones by their number."""
    try:
        return FailureCode(code).name.replace("_", " ").lower()
    except ValueError:
        return f"code {code}"
