import random

import pytest
import trio
import trio.testing
from trio.abc import Clock

from opnode.testing.clock import (
    DEFAULT_BASE,
    VirtualClock,
    VirtualWallClock,
    call_as,
    run_deterministic,
    virtual_clock,
)


async def test_the_virtual_clock_follows_trio(autojump_clock: Clock):
    clock = VirtualWallClock()
    assert clock() == DEFAULT_BASE + trio.current_time()
    before = clock()
    await trio.sleep(10)
    assert clock() - before == 10


async def test_the_virtual_clock_can_jump_alone(autojump_clock: Clock):
    clock = VirtualWallClock(1000.0)
    before = trio.current_time()
    clock.jump(-500)
    assert clock() == 500 + before


async def order_of_tasks() -> list[int]:
    order: list[int] = []

    async def note(number: int) -> None:
        await trio.lowlevel.checkpoint()
        order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(note, number)
    return order


def test_one_seed_gives_one_order_of_tasks_and_another_seed_another():
    first = run_deterministic(order_of_tasks, 1)
    assert first == run_deterministic(order_of_tasks, 1)
    assert first != run_deterministic(order_of_tasks, 2)


def test_arguments_results_and_virtual_time_pass_through():
    async def sleep(seconds: float) -> float:
        await trio.sleep(seconds)
        return trio.current_time()

    assert run_deterministic(sleep, 1, 3600.0) == 3600


def test_the_scheduler_is_as_before_afterwards_even_after_an_error():
    async def fail() -> None:
        raise KeyError("mine")

    run_deterministic(order_of_tasks, 1)
    first = trio.run(order_of_tasks)
    with pytest.raises(KeyError):
        run_deterministic(fail, 1)
    later = [trio.run(order_of_tasks) for _ in range(5)]
    assert any(order != first for order in later)


def test_the_global_random_state_is_left_alone():
    random.seed(4)
    expected = random.getstate()
    run_deterministic(order_of_tasks, 9)
    assert random.getstate() == expected


def run_virtually(main):
    clock = VirtualClock()
    return trio.run(main, clock, clock=clock)


def test_alarms_and_deadlines_come_in_the_order_of_time():
    async def main(clock):
        heard = []
        for at in (3.0, 1.0, 1.0, 5.0):
            clock.call_at(at, lambda: heard.append(("alarm", trio.current_time())))
        for _ in range(2):
            await trio.sleep(2)
            heard.append(("task", trio.current_time()))
        return list(heard)

    alarms = [("alarm", 1.0), ("alarm", 1.0), ("task", 2.0)]
    assert run_virtually(main) == [*alarms, ("alarm", 3.0), ("task", 4.0)]


def test_tasks_that_an_alarm_wakes_run_before_time_goes_on():
    async def main(clock):
        event = trio.Event()
        clock.call_at(1.0, event.set)
        clock.call_at(1.5, lambda: None)
        await event.wait()
        return trio.current_time()

    assert run_virtually(main) == 1.0


def test_a_deadline_that_an_alarm_brings_forward_is_kept():
    async def main(clock):
        with trio.CancelScope(deadline=100) as scope:
            clock.call_at(1.0, lambda: setattr(scope, "deadline", 2.0))
            clock.call_at(3.0, lambda: None)
            await trio.sleep_forever()
        return trio.current_time()

    assert run_virtually(main) == 2.0


def test_who_waits_until_all_are_blocked_comes_before_time_goes_on():
    async def main(clock):
        heard = []
        clock.call_at(0.0, lambda: heard.append("due"))
        clock.call_at(1.0, lambda: heard.append("later"))
        await trio.testing.wait_all_tasks_blocked()
        return list(heard), trio.current_time()

    assert run_virtually(main) == (["due"], 0.0)


def test_an_endless_row_of_alarms_lets_tasks_run():
    async def main(clock):
        def again():
            clock.call_at(trio.current_time() + 1, again)

        again()
        await trio.sleep(10_000)
        return trio.current_time()

    assert run_virtually(main) == 10_000


def test_an_alarm_can_act_as_a_task_that_sleeps():
    async def main(clock):
        seen = []
        me = trio.lowlevel.current_task()

        def look():
            seen.append(trio.lowlevel.current_task())

        clock.call_at(1.0, lambda: call_as(me, look))
        await trio.sleep(2)
        return seen == [me]

    assert run_virtually(main)


def test_only_a_virtual_clock_has_alarms():
    async def main(clock):
        return virtual_clock() is clock

    assert run_virtually(main)

    async def other():
        return virtual_clock()

    assert trio.run(other, clock=trio.testing.MockClock()) is None
