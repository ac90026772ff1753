import trio
from trio.abc import Clock

from opnode.drivers.clock import WallClock, system_wall_clock
from opnode.testing.clock import DEFAULT_BASE, VirtualWallClock


def test_the_system_clock_is_a_wall_clock_after_2026():
    clock: WallClock = system_wall_clock
    assert clock() > 1_767_000_000


async def test_the_virtual_clock_follows_trio(autojump_clock: Clock):
    clock: WallClock = VirtualWallClock()
    assert clock() == DEFAULT_BASE + trio.current_time()
    before = clock()
    await trio.sleep(10)
    assert clock() - before == 10


async def test_the_virtual_clock_can_jump_alone(autojump_clock: Clock):
    clock = VirtualWallClock(1000.0)
    before = trio.current_time()
    clock.jump(-500)
    assert clock() == 500 + before
