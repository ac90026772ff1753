"""The candidates of one lookup: who named them, and what became of them.

Owns their states. Refuses to know whom to ask next.
"""

import enum
from typing import Final

from opnode.core.addresses import public_subnet
from opnode.core.ids import Contact


class CandidateState(enum.Enum):
    """NEW → ASKED → ANSWERED or FAILED; SLOW lies between for stragglers.

    A SUSPECT failed lately: it is asked when there are too few others. A SURPLUS would
    be one too many of its subnet: it is NEW again when another of them fails.
    """

    NEW = enum.auto()
    SUSPECT = enum.auto()
    SURPLUS = enum.auto()
    ASKED = enum.auto()
    SLOW = enum.auto()
    ANSWERED = enum.auto()
    FAILED = enum.auto()


class Candidate:
    """One contact that somebody named.

    Attributes:
        contact: id and address.
        path: number of the path that it belongs to: the one that named it first.
        is_inside: it lies in the region.
        named_by: whose answer named it first; None for one of our own contacts.
        group: its /24 or /48 if it is public.
        state: what became of it.
        may_answer: it is NEW, ASKED or ANSWERED; kept beside the state, since the
            lookup looks at the nearest after every answer.
    """

    __slots__ = (
        "contact",
        "distance",
        "group",
        "is_inside",
        "may_answer",
        "named_by",
        "path",
        "state",
    )

    def __init__(
        self, contact: Contact, distance: int, path: int, named_by: "Candidate | None"
    ) -> None:
        self.contact = contact
        self.distance = distance
        self.path = path
        self.named_by = named_by
        self.is_inside = False
        self.group = public_subnet(contact.endpoint.host)
        self.state = _NEW
        self.may_answer = True

    def become(self, state: CandidateState) -> None:
        """Take the next state."""
        self.state = state
        self.may_answer = state in _MAY_ANSWER


# Looked up once: an Enum's attributes cost as much as the rest of a candidate.
_NEW: Final = CandidateState.NEW
_MAY_ANSWER: Final = (_NEW, CandidateState.ASKED, CandidateState.ANSWERED)
