"""Discrete events in virtual time: a heap, a clock and a digest.

    loop = EventLoop(run.watch)
    loop.call_at(5.0, node_leaves, 17)          # handler(subject, argument)
    loop.call_in(0.1, answer_arrives, 17, request)
    loop.run_until(3600.0)

Owns the order of events: by time, then as they were entered. Refuses to know what they
mean. Nothing is cancelled: a handler looks whether what it is about still holds.
"""

import hashlib
import heapq
from array import array
from collections.abc import Callable
from typing import Any, Final

from simulations.run_context import Watch

# What an event carries is between who enters it and its handler.
Handler = Callable[[int, Any], None]

_FOLDED_AT_ONCE: Final = 8192
"""Events; packing and hashing one by one would cost half of the loop's speed."""


class EventLoop:
    """Events ordered by time.

    Args:
        watch: is told of every event, by its handler's name.

    Attributes:
        now: virtual seconds, never decreasing.
        count: events handled so far.
    """

    def __init__(self, watch: Watch | None = None) -> None:
        self.now = 0.0
        self.count = 0
        self._heap: list[tuple[float, int, Handler, int, object]] = []
        self._watch = watch
        self._entered = 0
        self._trace = hashlib.sha256()
        self._times = array("d")
        self._subjects = array("q")

    def call_at(
        self, at_s: float, handler: Handler, subject: int, argument: object = None
    ) -> None:
        """Enter an event; one in the past is due at once.

        Args:
            at_s: absolute virtual seconds.
            handler: called as ``handler(subject, argument)``.
            subject: what the event is about, a node for example; part of the digest.
            argument: anything else that the handler needs.
        """
        self._entered += 1
        due_at = at_s if at_s > self.now else self.now
        heapq.heappush(self._heap, (due_at, self._entered, handler, subject, argument))

    def call_in(
        self, in_s: float, handler: Handler, subject: int, argument: object = None
    ) -> None:
        """Enter an event so many seconds from now."""
        self.call_at(self.now + in_s, handler, subject, argument)

    def run_until(self, until_s: float) -> None:
        """Handle all that is due until then, that moment included.

        Hot, so kept plain: about a million events a second of CPU.
        """
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= until_s:
            at_s, _, handler, subject, argument = pop(heap)
            self.now = at_s
            self._times.append(at_s)
            self._subjects.append(subject)
            if len(self._times) >= _FOLDED_AT_ONCE:
                self._fold()
            if self._watch is not None:
                self._watch(at_s, str(subject), _in_words(handler, argument))
            handler(subject, argument)
        self.now = max(self.now, until_s)

    def run(self) -> None:
        """Handle events until there are none."""
        while self._heap:
            self.run_until(self._heap[-1][0])

    def digest(self) -> bytes:
        """SHA-256 over time and subject of every event handled so far."""
        self._fold()
        return self._trace.digest()

    def _fold(self) -> None:
        self.count += len(self._times)
        self._trace.update(self._times)
        self._trace.update(self._subjects)
        self._times = array("d")
        self._subjects = array("q")


def _in_words(handler: Handler, argument: object) -> str:
    """What an event is, for a reader: ``node_leaves (17, 3.5)``."""
    name = getattr(handler, "__name__", type(handler).__name__).strip("_")
    return name if argument is None else f"{name} {argument}"
