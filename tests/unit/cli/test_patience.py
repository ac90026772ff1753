"""`patience`: only who really waits is told."""

import pytest
import trio

from opnode.cli.patience import told_if_slow


async def leave_after(seconds, told, *, cancelled=False):
    with trio.CancelScope() as scope:
        async with told_if_slow(0.3, lambda: told.append(trio.current_time())) as slow:
            await trio.sleep(5)
            if cancelled:
                scope.cancel()
            slow.set()
            with trio.CancelScope(shield=True):
                await trio.sleep(seconds)


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_slow_end_is_told_once_and_a_quick_one_is_not(
    autojump_clock, cancelled
):
    told = []
    await leave_after(0.2, told, cancelled=cancelled)
    assert told == []
    began_at = trio.current_time()
    await leave_after(2.0, told, cancelled=cancelled)
    assert told == [pytest.approx(began_at + 5.3)]
    assert trio.current_time() == pytest.approx(began_at + 7.0)


async def test_a_block_that_never_began_to_end_is_not_told_of(autojump_clock):
    told = []
    async with told_if_slow(0.3, lambda: told.append(1)):
        await trio.sleep(5)
    assert told == []


async def test_what_the_block_raises_leaves_as_it_is(autojump_clock):
    async def fail():
        async with told_if_slow(0.3, lambda: None) as slow:
            slow.set()
            raise KeyError("mine")

    with pytest.raises(KeyError):
        await fail()
