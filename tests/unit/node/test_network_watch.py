import random

import pytest
import trio
import trio.lowlevel
import trio.testing

from opnode.core.interfaces import InterfaceAddress
from opnode.node.network_watch import (
    LOOK_EVERY_S,
    SLEPT_S,
    NetworkChange,
    NetworkWatch,
)
from opnode.testing.clock import VirtualWallClock
from opnode.testing.virtual_network import VirtualHost, VirtualNetwork


class Laptop(VirtualHost):
    """A host that is carried around."""

    def __init__(self):
        super().__init__(VirtualNetwork(random.Random(1)), "10.0.0.1")
        self.addresses = ("10.0.0.1",)

    def interface_addresses(self):
        return tuple(InterfaceAddress(host=host) for host in self.addresses)

    def carry_to(self, *addresses):
        self.addresses = addresses
        self.announce_change()


@pytest.fixture
async def laptop(nursery):
    laptop = Laptop()
    laptop.clock = VirtualWallClock()
    laptop.watch = NetworkWatch(laptop, laptop.clock)
    laptop.heard = []
    laptop.watch.subscribe(laptop.heard.append)
    await nursery.start(laptop.watch.run)
    return laptop


async def test_nothing_is_told_while_nothing_changes(autojump_clock, laptop):
    await trio.sleep(3600)
    laptop.announce_change()
    await trio.sleep(1)
    assert laptop.heard == []
    assert laptop.watch.statistics().last is None


async def test_another_address_is_told_of_at_once(autojump_clock, laptop):
    await trio.sleep(100)
    laptop.carry_to("192.168.7.7")
    await trio.sleep(0.1)
    assert laptop.heard == [NetworkChange.ADDRESSES]
    laptop.carry_to("10.0.0.1")
    await trio.sleep(10)
    assert laptop.heard == [NetworkChange.ADDRESSES] * 2
    statistics = laptop.watch.statistics()
    assert statistics.changes == {NetworkChange.ADDRESSES: 2}
    assert statistics.last_age_s == pytest.approx(10, abs=0.2)


async def test_a_calendar_that_jumps_ahead_is_a_sleep_noticed_within_seconds(
    autojump_clock, laptop
):
    await trio.sleep(100)
    laptop.clock.jump(1800)
    await trio.sleep(LOOK_EVERY_S + 0.1)
    assert laptop.heard == [NetworkChange.RESUMED]
    await trio.sleep(100)
    assert laptop.heard == [NetworkChange.RESUMED]


async def test_timers_that_end_late_are_a_sleep_too(autojump_clock, laptop):
    await trio.sleep(100)
    autojump_clock.jump(LOOK_EVERY_S + SLEPT_S + 1)
    await trio.lowlevel.checkpoint()
    await trio.testing.wait_all_tasks_blocked()
    assert laptop.heard == [NetworkChange.RESUMED]


async def test_a_busy_machine_or_a_corrected_calendar_is_no_sleep(
    autojump_clock, laptop
):
    for jump_s in (SLEPT_S - 1, -3600, SLEPT_S / 2):
        await trio.sleep(100)
        laptop.clock.jump(jump_s)
    await trio.sleep(100)
    assert laptop.heard == []


async def test_everybody_who_subscribed_hears_it(autojump_clock, laptop):
    others = []
    laptop.watch.subscribe(others.append)
    laptop.watch.seen_elsewhere()
    assert others == laptop.heard == [NetworkChange.SEEN_ELSEWHERE]


async def test_two_addresses_that_take_turns_are_no_news(autojump_clock, laptop):
    for _ in range(20):
        laptop.watch.seen_elsewhere()
        await trio.sleep(1)
    assert laptop.heard == [NetworkChange.SEEN_ELSEWHERE] * 2
