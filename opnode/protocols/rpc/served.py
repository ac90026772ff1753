"""Requests that must be acted on once: those being worked on, and their answers.

Owns the recognition of duplicates by source and transaction id. Refuses to know what
was asked and how an answer travels.
"""

import enum
from collections import OrderedDict
from dataclasses import dataclass

from opnode.core.addresses import Endpoint

RequestKey = tuple[Endpoint, bytes]
"""Source and transaction id: what a retransmission has in common with its original."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedConfig:
    """Limits.

    Attributes:
        answer_within_s: an answer later than this is nobody's: the asker gave up.
        max_deferred: requests being worked on; an entry is 100 bytes.
        max_answers: answers kept for duplicates, at most 1.2 kB each. At a hundred
            introductions a second they cover 5 s, more than all retransmissions take.
    """

    answer_within_s: float = 30.0
    max_deferred: int = 1024
    max_answers: int = 512


class Seen(enum.Enum):
    """What is known of a request that arrived."""

    NEW = enum.auto()
    UNDER_WAY = enum.auto()
    ANSWERED = enum.auto()


class ServedRequests:
    """The memory behind at-most-once requests."""

    def __init__(self, config: ServedConfig) -> None:
        self._config = config
        # All wait equally long, so the first one is the oldest.
        self._deferred: dict[RequestKey, float] = {}
        self._answers: OrderedDict[RequestKey, bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._deferred)

    def look(self, key: RequestKey) -> Seen:
        """Whether this request was seen before."""
        if key in self._answers:
            return Seen.ANSWERED
        return Seen.UNDER_WAY if key in self._deferred else Seen.NEW

    def answer(self, key: RequestKey) -> bytes:
        """The datagram that answered a request."""
        return self._answers[key]

    def defer(self, key: RequestKey, now: float) -> None:
        """The answer comes later; makes room by forgetting the oldest."""
        deferred = self._deferred
        while deferred:
            oldest = next(iter(deferred))
            is_over = deferred[oldest] + self._config.answer_within_s < now
            if not is_over and len(deferred) < self._config.max_deferred:
                break
            del deferred[oldest]
        deferred[key] = now

    def settle(self, key: RequestKey) -> bool:
        """The deferred answer is here; False when nobody waits for it any more."""
        return self._deferred.pop(key, None) is not None

    def remember(self, key: RequestKey, datagram: bytes) -> None:
        """Keep an answer for duplicates of its request."""
        self._answers[key] = datagram
        if len(self._answers) > self._config.max_answers:
            self._answers.popitem(last=False)
