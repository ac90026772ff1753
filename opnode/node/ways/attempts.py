"""The last searches for direct paths: to whom, with which addresses, and what died.

Owns the list and its length. Refuses to know how a path is searched for.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from opnode.core.addresses import Candidate, Endpoint
from opnode.core.ids import PeerId
from opnode.drivers.ice.connection import CheckView
from opnode.node.ways.direct import Attempt, Cause

MAX_ATTEMPTS: Final = 16
"""Kept for whoever asks what went wrong; each takes a few kilobytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStatistics:
    """One round of checks.

    Attributes:
        peer_id: whom it looked for.
        age_s: seconds since it began.
        cause: why it began.
        local: our addresses that the peer was told.
        checks: the peer's addresses, and what became of each.
        nominated: the address that was chosen; None: none came back yet.
        is_over: whether it is too late for one.
    """

    peer_id: PeerId
    age_s: float
    cause: Cause
    local: tuple[Candidate, ...]
    checks: tuple[CheckView, ...]
    nominated: Endpoint | None
    is_over: bool


class AttemptLog:
    """Rounds of checks, as they stand when somebody asks."""

    def __init__(self, limit: int = MAX_ATTEMPTS) -> None:
        """Keep the newest ``limit``."""
        self._noted: deque[tuple[PeerId, Callable[[], Attempt]]] = deque(maxlen=limit)

    def note(self, peer_id: PeerId, attempt: Callable[[], Attempt]) -> None:
        """A round begins; ``attempt`` tells how it stands, now and later."""
        self._noted.append((peer_id, attempt))

    def attempts(self) -> tuple[Attempt, ...]:
        """The newest rounds, the newest last."""
        return tuple(attempt() for _, attempt in self._noted)

    def statistics(self, now: float) -> tuple[AttemptStatistics, ...]:
        """The newest rounds, the newest last, as figures."""
        return tuple(_view(peer_id, attempt(), now) for peer_id, attempt in self._noted)


def _view(peer_id: PeerId, attempt: Attempt, now: float) -> AttemptStatistics:
    nominated = attempt.nominated
    return AttemptStatistics(
        peer_id=peer_id,
        age_s=now - attempt.began_s,
        cause=attempt.cause,
        local=attempt.local,
        checks=attempt.checks,
        nominated=None if nominated is None else nominated.endpoint,
        is_over=attempt.is_over,
    )
