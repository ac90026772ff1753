import pytest
import trio

from opnode.drivers.background import open_background


async def test_what_the_block_raises_leaves_without_a_group(autojump_clock):
    async def fail():
        async with open_background() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await fail()


async def test_background_tasks_end_with_the_block(autojump_clock):
    ended = []

    async def background():
        try:
            await trio.sleep_forever()
        finally:
            ended.append(True)

    async with open_background() as nursery:
        nursery.start_soon(background)
        await trio.sleep(1)
    assert ended == [True]


async def test_a_cancelled_block_is_cancelled(autojump_clock):
    with trio.move_on_after(1) as scope:
        async with open_background():
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_failing_background_task_ends_the_block(autojump_clock):
    async def fail():
        await trio.sleep(1)
        raise KeyError("bug")

    with pytest.RaisesGroup(KeyError):
        async with open_background() as nursery:
            nursery.start_soon(fail)
            await trio.sleep_forever()
