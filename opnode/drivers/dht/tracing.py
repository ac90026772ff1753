"""Records the steps of one search, for whoever wants to see its way.

Owns the times and counts that the lookup itself does not keep. Refuses to know how a
trace is shown.
"""

from typing import Final, NamedTuple

import trio

from opnode.core.ids import Contact
from opnode.protocols.lookup.candidates import Candidate, CandidateState
from opnode.protocols.lookup.lookup import Lookup
from opnode.protocols.lookup.trace import LookupTrace, StepOutcome, TraceStep

_ID_BITS: Final = 160
_OUTCOMES: Final = {
    CandidateState.ANSWERED: StepOutcome.ANSWERED,
    CandidateState.SLOW: StepOutcome.LATE,
    CandidateState.FAILED: StepOutcome.FAILED,
}


class _Answer(NamedTuple):
    rtt_s: float
    named: int
    records: int


class Recorder:
    """What happened when; a search that has one tells it."""

    def __init__(self) -> None:
        self._started_at = trio.current_time()
        self._asked_at: dict[Contact, float] = {}
        self._answers: dict[Contact, _Answer] = {}

    def asked(self, contact: Contact) -> None:
        """A question was sent."""
        self._asked_at[contact] = trio.current_time() - self._started_at

    def answered(self, contact: Contact, *, named: int, records: int) -> None:
        """Its answer came, with so many new contacts and records."""
        now_s = trio.current_time() - self._started_at
        rtt_s = now_s - self._asked_at[contact]
        self._answers[contact] = _Answer(rtt_s, named, records)

    def trace(self, target: bytes, lookup: Lookup, records: int) -> LookupTrace:
        """All of it as a value, with what the lookup knows of each candidate."""
        asked = lookup.candidates()
        places = {candidate.contact: place for place, candidate in enumerate(asked)}
        return LookupTrace(
            target=target,
            radius=lookup.region.radius,
            took_s=trio.current_time() - self._started_at,
            is_complete=lookup.finished,
            records=records,
            steps=tuple(self._step(candidate, places) for candidate in asked),
        )

    def _step(self, candidate: Candidate, places: dict[Contact, int]) -> TraceStep:
        contact = candidate.contact
        named_by = candidate.named_by
        answer = self._answers.get(contact)
        return TraceStep(
            contact=contact,
            parent=places[named_by.contact] if named_by is not None else None,
            path=candidate.path,
            shared_bits=_ID_BITS - candidate.distance.bit_length(),
            is_inside=candidate.is_inside,
            outcome=_OUTCOMES.get(candidate.state, StepOutcome.OPEN),
            asked_at_s=self._asked_at[contact],
            rtt_s=answer.rtt_s if answer is not None else None,
            named=answer.named if answer is not None else 0,
            records=answer.records if answer is not None else 0,
        )
