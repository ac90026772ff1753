import asyncio  # noqa: TID251 - the island is what these tests are about
import contextvars
import gc
import logging
import math
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest
import trio
import trio.testing
from trio.abc import Clock

from opnode.core.errors import LocalProtocolError
from opnode.drivers.asyncio_island import (
    Island,
    OneShot,
    island_sleep,
    open_island,
    start_island_task,
)


@pytest.fixture
async def island(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Island]:
    # What the whole test run holds is set aside, so that collecting is fast.
    gc.freeze()
    async with open_island() as island:
        yield island
    gc.collect()
    gc.unfreeze()
    assert not caplog.records


async def test_a_coroutine_gives_its_result_to_trio(
    autojump_clock: Clock, island: Island
):
    async def add(one: int, other: int) -> int:
        await asyncio.sleep(0)
        return one + other

    assert await island.run(add(3, 4)) == 7


async def test_a_coroutine_that_never_waits_is_done_at_once(
    autojump_clock: Clock, island: Island
):
    async def answer() -> int:
        return 42

    with trio.testing.assert_checkpoints():
        assert await island.run(answer()) == 42


async def test_an_exception_passes_through(autojump_clock: Clock, island: Island):
    async def fail(delay: float) -> None:
        await asyncio.sleep(delay)
        raise KeyError("mine")

    for delay in (0, 1):
        with pytest.raises(KeyError, match="mine"):
            await island.run(fail(delay))


async def test_the_time_of_the_loop_is_the_time_of_trio(
    autojump_clock: Clock, island: Island
):
    async def sleep() -> float:
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        await asyncio.sleep(3600)
        return loop.time() - started_at

    started_at = trio.current_time()
    assert await island.run(sleep()) == pytest.approx(3600)
    assert trio.current_time() - started_at == pytest.approx(3600)


async def test_cancelling_in_trio_cancels_the_coroutine_and_waits_for_its_end(
    autojump_clock: Clock, island: Island
):
    steps: list[str] = []

    async def stubborn() -> None:
        try:
            await asyncio.sleep(math.inf)
        except asyncio.CancelledError:
            steps.append("cancelled")
            await asyncio.sleep(2)
            steps.append("cleaned up")
            raise

    with trio.move_on_after(1) as scope:
        await island.run(stubborn())
    assert scope.cancelled_caught
    assert steps == ["cancelled", "cleaned up"]
    assert trio.current_time() == pytest.approx(3)


async def test_a_coroutine_that_finishes_in_spite_of_a_cancellation_gives_its_result(
    autojump_clock: Clock, island: Island
):
    async def finish() -> str:
        try:
            await asyncio.sleep(math.inf)
        except asyncio.CancelledError:
            return "finished"
        return "never"

    with trio.move_on_after(1) as scope:
        assert await island.run(finish()) == "finished"
    assert not scope.cancelled_caught


async def test_a_task_cancelled_from_the_inside_is_a_named_error(
    autojump_clock: Clock, island: Island
):
    async def cancel_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)

    with pytest.raises(LocalProtocolError, match="from the inside"):
        await island.run(cancel_itself())


async def test_closing_the_island_ends_what_still_runs_there(autojump_clock: Clock):
    ended: list[str] = []

    async def linger(name: str) -> None:
        try:
            await asyncio.sleep(math.inf)
        finally:
            ended.append(name)

    async with trio.open_nursery() as nursery:

        async def wait(island: Island) -> None:
            with pytest.raises(trio.ClosedResourceError):
                await island.run(linger("run"))

        async with open_island() as island:
            island.call(start_island_task, linger("task"))
            nursery.start_soon(wait, island)
            await trio.testing.wait_all_tasks_blocked()
    assert sorted(ended) == ["run", "task"]


async def test_a_task_that_refuses_to_end_is_left_behind_after_two_seconds(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
):
    refuses = True

    async def refuse() -> None:
        while refuses:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                continue

    started_at = trio.current_time()
    async with open_island() as island:
        task = island.call(start_island_task, refuse())
    assert trio.current_time() - started_at == pytest.approx(2)
    assert "left behind" in caplog.text
    # End it by hand, so that nothing is reported when it is collected.
    refuses = False
    coroutine: Coroutine[Any, Any, None] = task.get_coro()
    with pytest.raises(StopIteration):
        coroutine.throw(asyncio.CancelledError())
    task._log_destroy_pending = False


async def test_a_closed_island_refuses_calls_and_coroutines(autojump_clock: Clock):
    async with open_island() as island:
        pass
    with pytest.raises(trio.ClosedResourceError):
        island.call(print)
    with pytest.raises(trio.ClosedResourceError):
        await island.run(asyncio.sleep(0))


async def test_an_exception_of_the_block_is_not_wrapped_in_a_group(
    autojump_clock: Clock,
):
    with pytest.raises(KeyError, match="mine"):
        async with open_island():
            raise KeyError("mine")


async def test_a_cancelled_block_still_closes_the_island(autojump_clock: Clock):
    ended: list[bool] = []

    async def linger() -> None:
        try:
            await asyncio.sleep(math.inf)
        finally:
            await asyncio.sleep(0.5)
            ended.append(True)

    with trio.move_on_after(1):
        async with open_island() as island:
            await island.run(linger())
    assert ended == [True]


async def test_a_call_runs_on_the_loop_and_what_it_made_ready_runs_at_once(
    autojump_clock: Clock, island: Island
):
    steps: list[str] = []

    async def step() -> None:
        steps.append("first")
        await asyncio.sleep(0)
        steps.append("second")

    def start() -> str:
        asyncio.get_running_loop().create_task(step())
        return "started"

    assert island.call(start) == "started"
    assert steps == ["first", "second"]
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


async def test_a_call_from_inside_of_the_loop_is_a_plain_call(
    autojump_clock: Clock, island: Island
):
    assert island.call(lambda: island.call(lambda: 5)) == 5


async def test_an_endless_chain_of_callbacks_does_not_starve_trio(
    autojump_clock: Clock, island: Island
):
    count = 0

    async def spin() -> None:
        nonlocal count
        while count < 10_000:
            count += 1
            await asyncio.sleep(0)

    task = island.call(start_island_task, spin())
    assert 0 < count < 1000
    for _ in range(10_000):
        if task.done():
            break
        await trio.lowlevel.checkpoint()
    assert count == 10_000


async def test_a_future_set_from_trio_wakes_its_coroutine(
    autojump_clock: Clock, island: Island
):
    future = island.call(lambda: asyncio.get_running_loop().create_future())

    async def wait() -> int:
        return await future

    async with trio.open_nursery() as nursery:

        async def check() -> None:
            assert await island.run(wait()) == 9

        nursery.start_soon(check)
        await trio.testing.wait_all_tasks_blocked()
        future.set_result(9)


async def test_timers_run_in_order_and_cancelled_ones_do_not(
    autojump_clock: Clock, island: Island
):
    calls: list[int] = []

    def schedule() -> None:
        loop = asyncio.get_running_loop()
        timers = [loop.call_later(n, calls.append, n) for n in (5, 3, 1, 4, 2)]
        timers[1].cancel()

    island.call(schedule)
    await trio.sleep(10)
    assert calls == [1, 2, 4, 5]


async def test_cancelled_timers_do_not_pile_up(autojump_clock: Clock, island: Island):
    async def wait_often() -> None:
        # A live timer before them keeps the cancelled ones from the top of the heap.
        asyncio.get_running_loop().call_later(5_000, list)
        for _ in range(1000):
            timer = asyncio.get_running_loop().call_later(10_000, print)
            timer.cancel()
            await asyncio.sleep(0.01)

    await island.run(wait_often())
    assert len(island._loop._timers) < 10


async def test_a_failing_callback_is_logged_and_the_loop_goes_on(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
):
    def fail() -> None:
        raise RuntimeError("callback")

    async with open_island() as island:
        with caplog.at_level(logging.ERROR):
            island.call(lambda: asyncio.get_running_loop().call_soon(fail))
        assert "asyncio island" in caplog.text
        await island.run(asyncio.sleep(1))


async def test_asyncio_building_blocks_work(autojump_clock: Clock, island: Island):
    async def use_them() -> list[str]:
        found: list[str] = []
        queue: asyncio.Queue[str] = asyncio.Queue()

        async def produce() -> None:
            await asyncio.sleep(1)
            await queue.put("queue")

        producer = asyncio.create_task(produce(), name="producer")
        found.append(await queue.get())
        await producer
        try:
            await asyncio.wait_for(asyncio.sleep(math.inf), 2)
        except TimeoutError:
            found.append("wait_for")
        found += await asyncio.gather(*(asyncio.sleep(n, str(n)) for n in (3, 1)))
        async with asyncio.timeout(5), asyncio.Lock():
            found.append("timeout")
        done, pending = await asyncio.wait(
            [asyncio.create_task(asyncio.sleep(n)) for n in (1, 10)],
            return_when=asyncio.FIRST_COMPLETED,
        )
        found.append(f"wait {len(done)} {len(pending)}")
        for task in pending:
            task.cancel()
        return found

    expected = ["queue", "wait_for", "3", "1", "timeout", "wait 1 1"]
    assert await island.run(use_them()) == expected


async def test_sockets_and_threads_are_refused(autojump_clock: Clock, island: Island):
    async def use_a_thread() -> None:
        await asyncio.get_running_loop().run_in_executor(None, print)

    with pytest.raises(NotImplementedError):
        await island.run(use_a_thread())


async def test_two_islands_do_not_mix(autojump_clock: Clock):
    async def loop_id() -> int:
        await asyncio.sleep(0.1)
        return id(asyncio.get_running_loop())

    async with open_island() as one, open_island() as other:
        assert await one.run(loop_id()) != await other.run(loop_id())
        assert not one._loop.is_closed()
        assert not one._loop.is_running()


async def test_context_variables_reach_the_coroutine(
    autojump_clock: Clock, island: Island
):
    variable = contextvars.ContextVar("variable", default="unset")

    async def read() -> str:
        await asyncio.sleep(1)
        return variable.get()

    variable.set("set")
    assert await island.run(read()) == "set"


async def test_a_one_shot_gives_its_value_or_none_when_it_takes_too_long(
    autojump_clock: Clock, island: Island
):
    slot: OneShot[str] = OneShot()

    async def wait() -> tuple[str | None, str | None, str | None]:
        return await slot.wait(1), await slot.wait(1000), await slot.wait(0)

    async def give() -> None:
        await trio.sleep(1.5)
        slot.set("value")
        slot.set("too late")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(give)
        assert await island.run(wait()) == (None, "value", "value")
    assert trio.current_time() == pytest.approx(1.5)


async def test_a_coroutine_can_sleep_without_knowing_asyncio(
    autojump_clock: Clock, island: Island
):
    await island.run(island_sleep(12))
    assert trio.current_time() == pytest.approx(12)


async def test_a_thousand_coroutines_at_once_all_end(
    autojump_clock: Clock, island: Island
):
    results: list[int] = []

    async def one(number: int) -> None:
        async def work() -> int:
            await asyncio.sleep(number % 7)
            return number

        results.append(await island.run(work()))

    async with trio.open_nursery() as nursery:
        for number in range(1000):
            nursery.start_soon(one, number)
    assert sorted(results) == list(range(1000))
    assert not asyncio.all_tasks(island._loop)


async def test_a_coroutine_of_a_cancelled_caller_is_not_started(
    autojump_clock: Clock, island: Island
):
    async def fail() -> None:
        raise AssertionError("started")

    with trio.CancelScope() as scope:
        scope.cancel()
        await island.run(fail())
    assert scope.cancelled_caught
