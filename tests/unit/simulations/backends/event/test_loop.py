"""The event loop runs what is due in order, and its digest tells runs apart."""

import itertools
import math
import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

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


def test_bursts_at_one_instant_and_silence_between_them_keep_the_order() -> None:
    loop = EventLoop()
    seen: list[tuple[float, int]] = []
    entered: list[tuple[float, int]] = []
    rng = random.Random(9)

    def note(subject: int, at_s: float) -> None:
        seen.append((at_s, subject))

    for burst in range(4):
        base_s = burst * 50_000.0
        times = [base_s] * 3000 + [base_s + rng.random() * 1e-3 for _ in range(3000)]
        times += [base_s + rng.random() * 10_000 for _ in range(500)]
        for at_s in times:
            entered.append((at_s, len(entered)))
            loop.call_at(at_s, note, len(entered) - 1, at_s)
    assert len(loop) == len(entered)
    loop.run()
    assert seen == sorted(entered)


@given(
    st.lists(st.floats(0, 1e6), max_size=200),
    st.lists(st.floats(0, 1e6), min_size=1, max_size=5),
)
def test_any_times_run_in_order_however_the_run_is_divided(
    times: list[float], stops: list[float]
) -> None:
    loop = EventLoop()
    seen: list[tuple[float, int]] = []

    def note(subject: int, at_s: float) -> None:
        assert loop.now == at_s
        seen.append((at_s, subject))

    for number, at_s in enumerate(times):
        loop.call_at(at_s, note, number, at_s)
    for stop_s in sorted(stops):
        loop.run_until(stop_s)
        assert all(at_s <= stop_s for at_s, _ in seen)
        assert len(seen) == sum(at_s <= stop_s for at_s in times)
    loop.run()
    assert seen == sorted((at_s, number) for number, at_s in enumerate(times))


def test_what_is_due_at_infinity_never_is() -> None:
    loop = EventLoop()
    loop.call_at(math.inf, lambda _subject, _rest: None, 0)
    loop.call_in(math.inf, lambda _subject, _rest: None, 0)
    loop.run()
    assert loop.count == 0
