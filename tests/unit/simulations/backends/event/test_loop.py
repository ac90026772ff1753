"""The event loop runs what is due in order, and its digest tells runs apart."""

import itertools
import random

import numpy as np

from simulations.backends.event.loop import EventLoop


def _crowd(loop: EventLoop, seed: int, events: int) -> list[tuple[float, int]]:
    """Nodes that enter further events, many at the same instant."""
    rng = random.Random(seed)
    seen: list[tuple[float, int]] = []

    def step(subject: int, left: int) -> None:
        seen.append((loop.now, subject))
        if left:
            loop.call_in(
                rng.choice([0.0, 0.25, 1.0, rng.random()]), step, subject, left - 1
            )

    for subject in range(events):
        loop.call_at(rng.randrange(4), step, subject, 5)
    loop.run()
    return seen


def test_events_run_by_time_and_then_as_they_were_entered() -> None:
    loop = EventLoop()
    entered: list[tuple[float, int]] = []
    seen: list[tuple[float, int]] = []
    rng = random.Random(3)
    for number in range(5000):
        at_s = rng.randrange(50) / 4
        entered.append((at_s, number))
        loop.call_at(
            at_s, lambda subject, at_s: seen.append((at_s, subject)), number, at_s
        )
    loop.run_until(100.0)
    assert seen == sorted(entered)


def test_time_never_goes_back_whatever_handlers_enter() -> None:
    seen = _crowd(EventLoop(), 1, 3000)
    assert len(seen) == 6 * 3000
    assert all(one[0] <= other[0] for one, other in itertools.pairwise(seen))


def test_an_event_in_the_past_is_due_at_once() -> None:
    loop = EventLoop()
    loop.run_until(5.0)
    seen: list[float] = []
    loop.call_at(1.0, lambda _subject, _rest: seen.append(loop.now), 0)
    loop.run_until(5.0)
    assert seen == [5.0]


def test_what_is_due_later_waits_for_the_next_run() -> None:
    loop = EventLoop()
    seen: list[int] = []
    for number in range(1000):
        loop.call_at(float(number), lambda subject, _rest: seen.append(subject), number)
    loop.run_until(499.5)
    assert (seen[-1], loop.now, len(loop)) == (499, 499.5, 500)
    loop.call_at(499.75, lambda subject, _rest: seen.append(subject), -1)
    loop.run_until(500.0)
    assert seen[-2:] == [-1, 500]


def test_the_digest_depends_on_times_and_subjects_and_not_on_looking_at_it() -> None:
    one, other, looked_at = EventLoop(), EventLoop(), EventLoop()
    _crowd(one, 1, 3000)
    looked_at.digest()
    _crowd(looked_at, 1, 3000)
    _crowd(other, 2, 3000)
    assert one.digest() == looked_at.digest() != other.digest()


def test_events_of_arrays_are_counted_and_in_the_digest() -> None:
    digests = set()
    for subject in (1, 2):
        loop = EventLoop()
        loop.call_at(0.0, lambda _subject, _rest: None, 0)
        loop.run()
        loop.note(np.array([1.0, 2.0]), np.array([1, subject]))
        assert loop.count == 3
        digests.add(loop.digest())
    assert len(digests) == 2
