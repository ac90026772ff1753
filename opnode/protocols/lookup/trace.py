"""The way that a lookup took, step by step, as frozen values.

Owns their shape. Refuses to know how they are shown.
"""

import enum
from dataclasses import dataclass

from opnode.core.ids import Contact


class StepOutcome(enum.Enum):
    """What became of a question."""

    ANSWERED = "answered"
    LATE = "late"
    FAILED = "failed"
    OPEN = "open"
    """The lookup was over before the answer came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceStep:
    """One contact that was asked.

    Attributes:
        contact: id and address.
        parent: place among the steps of whoever named it first; None: our own table.
        path: number of its disjoint path, from 0 on.
        shared_bits: leading bits that its id shares with the target, 0 to 160.
        is_inside: it lies in the target's region.
        outcome: what became of the question.
        asked_at_s: seconds after the start.
        rtt_s: seconds until the answer; None without one.
        named: contacts in its answer that were new to the lookup.
        records: records in its answer, verified or not.
    """

    contact: Contact
    parent: int | None
    path: int
    shared_bits: int
    is_inside: bool
    outcome: StepOutcome
    asked_at_s: float
    rtt_s: float | None
    named: int
    records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupTrace:
    """One lookup from its start to its end.

    Attributes:
        target: 20 bytes.
        radius: XOR distances below it are inside the region; 0: size not known.
        took_s: seconds in all.
        is_complete: it ended by itself; False when a limit or the deadline ended it.
        records: slots under the target of which a record verified.
        steps: in the order of the questions.
    """

    target: bytes
    radius: int
    took_s: float
    is_complete: bool
    records: int
    steps: tuple[TraceStep, ...]

    def children(self, parent: int | None) -> tuple[int, ...]:
        """Places of the steps whom this one named first; of our own with None."""
        return tuple(
            place for place, step in enumerate(self.steps) if step.parent == parent
        )
