import random

import pytest
import trio
from trio.abc import Clock

from opnode.testing.clock import DEFAULT_BASE, VirtualWallClock, run_deterministic


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
