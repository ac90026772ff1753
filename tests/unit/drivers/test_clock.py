from opnode.drivers.clock import WallClock, system_wall_clock


def test_the_system_clock_is_a_wall_clock_after_2026():
    clock: WallClock = system_wall_clock
    assert clock() > 1_767_000_000
