"""Discrete events in virtual time: a queue, a clock and a digest.

    loop = EventLoop(run.watch)
    loop.call_at(5.0, node_leaves, 17)          # handler(subject, argument)
    loop.call_in(0.1, answer_arrives, 17, request)
    loop.run_until(3600.0)
    loop.note(times, nodes)                     # events that were worked out in arrays

Owns the order of events: by time, then as they were entered. Refuses to know what they
mean. Nothing is cancelled: a handler looks whether what it is about still holds.
"""

import hashlib
import heapq
import math
from array import array
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from simulations.run_context import Watch

# What an event carries is between who enters it and its handler.
Handler = Callable[[int, Any], None]
_Event = tuple[float, int, Handler, int, object]

_FOLDED_AT_ONCE: Final = 8192
"""Events; packing and hashing one by one would cost half of the loop's speed."""
_LEAST: Final = 256
_PART: Final = 8
"""Of the queue, an eighth is sorted out at a time, and no fewer than the least."""


class EventLoop:
    """Events ordered by time.

    One heap of a hundred thousand events misses the cache at each step of its way. So
    those due soon are kept apart, in order; only what is entered among them goes
    through a heap, a small one. All others lie as they came until their turn is near.

    Args:
        watch: is told of every event, by its handler's name; not of arrays.

    Attributes:
        now: virtual seconds, never decreasing.
    """

    def __init__(self, watch: Watch | None = None) -> None:
        self.now = 0.0
        self._watch = watch
        self._noted = 0
        self._entered = 0
        # What was entered before the edge, once the events before it were sorted out.
        self._soon: list[_Event] = []
        # The next events, the last first.
        self._next: list[_Event] = []
        self._edge = -math.inf
        # At or beyond the edge: in order, the last first, and as they came.
        self._later: list[_Event] = []
        self._new: list[_Event] = []
        self._trace = hashlib.sha256()
        self._times = array("d")
        self._subjects = array("q")

    def __len__(self) -> int:
        """Events that wait."""
        return sum(map(len, (self._soon, self._next, self._later, self._new)))

    @property
    def count(self) -> int:
        """Events handled so far, those of arrays too."""
        return self._noted + len(self._times)

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
        if due_at < self._edge:
            event = (due_at, self._entered, handler, subject, argument)
            heapq.heappush(self._soon, event)
        else:
            self._new.append((due_at, self._entered, handler, subject, argument))

    def call_in(
        self, in_s: float, handler: Handler, subject: int, argument: object = None
    ) -> None:
        """Enter an event so many seconds from now; see `call_at`."""
        self._entered += 1
        due_at = self.now + in_s if in_s > 0 else self.now
        # Written out: most events come this way.
        if due_at < self._edge:
            event = (due_at, self._entered, handler, subject, argument)
            heapq.heappush(self._soon, event)
        else:
            self._new.append((due_at, self._entered, handler, subject, argument))

    def run_until(self, until_s: float) -> None:
        """Handle all that is due until then, that moment included.

        Hot, so kept plain: about a million events a second of CPU, and half of that
        with a hundred thousand waiting.
        """
        soon, pop, watch = self._soon, heapq.heappop, self._watch
        times, subjects = self._times, self._subjects
        note_time, note_subject = times.append, subjects.append
        while True:
            following = self._next
            if soon and not (following and following[-1] < soon[0]):
                if soon[0][0] > until_s:
                    break
                at_s, _, handler, subject, argument = pop(soon)
            elif following:
                if following[-1][0] > until_s:
                    break
                at_s, _, handler, subject, argument = following.pop()
            elif self._sort_out():
                continue
            else:
                break
            self.now = at_s
            note_time(at_s)
            note_subject(subject)
            if len(times) >= _FOLDED_AT_ONCE:
                self._fold()
            if watch is not None:
                watch(at_s, str(subject), _in_words(handler, argument))
            handler(subject, argument)
        self.now = max(self.now, until_s)

    def run(self) -> None:
        """Handle events until there are none."""
        while len(self):
            if not (self._soon or self._next):
                self._sort_out()
            heads = [*self._soon[:1], *self._next[-1:]]
            self.run_until(min(heads)[0])

    def note(
        self, times: npt.NDArray[np.float64], subjects: npt.NDArray[np.int64]
    ) -> None:
        """Count events that were worked out in arrays; they are in the digest too.

        Args:
            times: virtual seconds, when each happened; shape (n,).
            subjects: what each is about; shape (n,).
        """
        assert len(times) == len(subjects)
        self._fold()
        self._noted += len(times)
        self._trace.update(np.ascontiguousarray(times, np.float64).data)
        self._trace.update(np.ascontiguousarray(subjects, np.int64).data)

    def digest(self) -> bytes:
        """SHA-256 over time and subject of every event handled so far."""
        # A copy: looking at it in the middle leaves the end the same.
        trace = self._trace.copy()
        trace.update(self._times)
        trace.update(self._subjects)
        return trace.digest()

    def _sort_out(self) -> bool:
        """Find the events that are next; whether there are any."""
        later = self._later
        later += self._new
        self._new = []
        # Sorted but for the new ones, which is what this sort is best at.
        later.sort(reverse=True)
        part = max(_LEAST, len(later) // _PART)
        self._next = later[-part:]
        del later[-part:]
        self._edge = later[-1][0] if later else math.inf
        if not later and self._next:
            # What comes after all of them need not go through the heap.
            self._edge = math.nextafter(self._next[0][0], math.inf)
        return bool(self._next)

    def _fold(self) -> None:
        self._noted += len(self._times)
        self._trace.update(self._times)
        self._trace.update(self._subjects)
        # In place: the loop under way holds their ``append``.
        del self._times[:]
        del self._subjects[:]


def _in_words(handler: Handler, argument: object) -> str:
    """What an event is, for a reader: ``node_leaves (17, 3.5)``."""
    name = getattr(handler, "__name__", type(handler).__name__).strip("_")
    return name if argument is None else f"{name} {argument}"
