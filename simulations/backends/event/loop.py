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
_WISHED: Final = 256
_FEWEST, _MOST = 32, 2048
"""Events of a slot: below a few the slots cost more than their events; above many,
sorting them misses the cache."""
_JUDGED_AFTER: Final = 32
"""Slots, until their width is changed if it is wrong."""
_MOST_PER_S: Final = 1e6
"""Slots; narrower ones would be as fine as the grain of a float of months."""
_LONGEST: Final = 160
"""Characters of an event in words."""


class EventLoop:
    """Events ordered by time.

    One heap of a hundred thousand events misses the cache at each step of its way. So
    events lie in slots of time as they came, and one slot at a time is put in order;
    only what is entered into that one goes through a heap, a small one. How wide slots
    are follows from how many events they hold.

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
        # What was entered before the edge, once the events before it were put in order.
        self._soon: list[_Event] = []
        # The events of the slot under way, the last first.
        self._next: list[_Event] = []
        self._edge = -math.inf
        # All later ones by the number of their slot, and those numbers as a heap.
        self._slots: dict[int, list[_Event]] = {}
        self._numbers: list[int] = []
        self._per_s = 1.0
        self._slots_done = self._events_done = 0
        self._trace = hashlib.sha256()
        self._times = array("d")
        self._subjects = array("q")

    def __len__(self) -> int:
        """Events that wait."""
        later = sum(map(len, self._slots.values()))
        return len(self._soon) + len(self._next) + later

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
        event = (due_at, self._entered, handler, subject, argument)
        if due_at < self._edge:
            heapq.heappush(self._soon, event)
        else:
            self._put(event)

    def call_in(
        self, in_s: float, handler: Handler, subject: int, argument: object = None
    ) -> None:
        """Enter an event so many seconds from now; see `call_at`."""
        self._entered += 1
        due_at = self.now + in_s if in_s > 0 else self.now
        event = (due_at, self._entered, handler, subject, argument)
        if due_at < self._edge:
            heapq.heappush(self._soon, event)
        else:
            self._put(event)

    def run_until(self, until_s: float) -> None:
        """Handle all that is due until then, that moment included.

        Hot, so kept plain: over a million events a second of CPU, and 0.9 million with
        a hundred thousand waiting.
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
        while self._soon or self._next or self._sort_out():
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

    def _put(self, event: _Event) -> None:
        """Lay an event into its slot."""
        try:
            number = int(event[0] * self._per_s)
        except OverflowError:
            # At infinity: never.
            return
        slot = self._slots.get(number)
        if slot is None:
            self._slots[number] = [event]
            heapq.heappush(self._numbers, number)
        else:
            slot.append(event)

    def _sort_out(self) -> bool:
        """Put the next slot in order; whether there is one."""
        if not self._numbers:
            return False
        if len(self._slots[self._numbers[0]]) > _MOST:
            self._narrow(self._slots[self._numbers[0]])
        elif self._slots_done >= _JUDGED_AFTER:
            self._widen()
        number = heapq.heappop(self._numbers)
        self._next = self._slots.pop(number)
        self._next.sort(reverse=True)
        self._edge = self._first_beyond(number)
        self._slots_done += 1
        self._events_done += len(self._next)
        return True

    def _first_beyond(self, number: int) -> float:
        """The least time whose slot is a later one: rounded, as slots are found."""
        edge = (number + 1) / self._per_s
        while int(edge * self._per_s) > number:
            edge = math.nextafter(edge, 0.0)
        while int(edge * self._per_s) <= number:
            edge = math.nextafter(edge, math.inf)
        return edge

    def _narrow(self, slot: list[_Event]) -> None:
        """Make slots narrower: this one holds too many, and not all at one instant."""
        times = [event[0] for event in slot]
        span_s = max(times) - min(times)
        if span_s > 0:
            per_s = min(_MOST_PER_S, len(slot) / _WISHED / span_s)
            if per_s > self._per_s:
                self._lay_out(per_s)

    def _widen(self) -> None:
        """Make slots wider if the last ones held few events although many wait."""
        mean = self._events_done / self._slots_done
        if mean < _FEWEST < len(self._numbers):
            self._lay_out(self._per_s * mean / _WISHED)
        self._slots_done = self._events_done = 0

    def _lay_out(self, per_s: float) -> None:
        slots = self._slots.values()
        self._per_s, self._slots, self._numbers = per_s, {}, []
        self._slots_done = self._events_done = 0
        for slot in slots:
            for event in slot:
                self._put(event)

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
    return name if argument is None else f"{name} {argument}"[:_LONGEST]
