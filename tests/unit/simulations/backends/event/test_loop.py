"""Events come in the order of time, then as they were entered."""

from hypothesis import given
from hypothesis import strategies as st

from simulations.backends.event.loop import EventLoop


@given(st.lists(st.floats(0, 100), max_size=50))
def test_events_are_handled_by_time_then_in_the_order_of_entry(times):
    loop = EventLoop()
    seen = []
    for number, at_s in enumerate(times):
        loop.call_at(at_s, lambda n, _: seen.append((loop.now, n)), number)
    loop.run_until(100)
    assert seen == sorted((at_s, n) for n, at_s in enumerate(times))
    assert loop.now == 100


def test_what_is_due_at_the_end_is_handled_and_nothing_later():
    loop = EventLoop()
    seen = []
    for at_s in (1.0, 2.0, 2.5):
        loop.call_at(at_s, lambda _n, at: seen.append(at), 0, at_s)
    loop.run_until(2.0)
    assert seen == [1.0, 2.0]


def test_a_handler_may_enter_events_and_one_in_the_past_is_due_at_once():
    loop = EventLoop()
    seen = []

    def first(subject, argument):
        loop.call_at(0.0, lambda n, _: seen.append((loop.now, n)), 7)
        loop.call_in(1.0, lambda n, _: seen.append((loop.now, n)), 8)

    loop.call_at(5.0, first, 1)
    loop.run()
    assert seen == [(5.0, 7), (6.0, 8)]


def test_the_digest_tells_times_and_subjects_apart():
    def digest(*events):
        loop = EventLoop()
        for at_s, subject in events:
            loop.call_at(at_s, lambda _n, _a: None, subject)
        loop.run_until(10)
        return loop.digest()

    assert digest((1, 1), (2, 2)) == digest((2, 2), (1, 1))
    assert len({digest((1, 1)), digest((1, 2)), digest((2, 1)), digest()}) == 4
