# The ways below take arguments that only the protocol needs.
# ruff: noqa: ARG002

import random

import pytest
import trio
from trio.abc import Clock

from opnode.core.addresses import Endpoint
from opnode.core.errors import MappingRefused
from opnode.drivers.router.control import RouterControl
from opnode.drivers.router.home_router import HomeRouter
from opnode.drivers.router.mappings import Mapped, MappingMethod
from opnode.drivers.router.port_mapping import MappingState, PortMapping
from opnode.testing.home_router import FakeHomeRouter
from opnode.testing.virtual_network import Link, VirtualNetwork

ROUTER, OURS = "192.168.1.1", "192.168.1.2"
PUBLIC = "8.8.4.4"


class Refusing:
    """A way that never works."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.asked = 0
        self._delay_s = delay_s

    async def map(self, internal_port: int, wanted_port: int, lifetime_s: int):
        self.asked += 1
        await trio.sleep(self._delay_s)
        raise MappingRefused("not here")

    async def unmap(self, mapped: Mapped) -> None:
        raise MappingRefused("not here")


class Permanent(Refusing):
    """A way with mappings that never end."""

    async def map(self, internal_port: int, wanted_port: int, lifetime_s: int):
        self.asked += 1
        await trio.lowlevel.checkpoint()
        return Mapped(
            method=MappingMethod.UPNP,
            router=ROUTER,
            internal_port=internal_port,
            external=Endpoint(PUBLIC, wanted_port),
            lifetime_s=0,
        )


class Home:
    def __init__(self, external: str = PUBLIC) -> None:
        self.network = VirtualNetwork(random.Random(1), Link(latency_s=(0.001, 0.002)))
        self.fake = FakeHomeRouter(self.network.host(ROUTER), ROUTER, external)
        self.control = RouterControl(
            self.network.host(OURS),
            HomeRouter(ROUTER, OURS),
            random.Random(1).randbytes,
        )
        self.told: list[Endpoint | None] = []

    def mapping(self, *mappers) -> PortMapping:
        mapping = PortMapping(4000, lambda: mappers or (self.control,))
        mapping.on_mapped = self.told.append
        return mapping


async def test_a_mapping_is_kept_for_hours_and_told_once(
    autojump_clock: Clock, nursery: trio.Nursery
):
    home = Home()
    await nursery.start(home.fake.run)
    mapping = home.mapping()
    nursery.start_soon(mapping.run)
    for _ in range(20):
        await trio.sleep(700)
        (port,) = home.fake.ports
        assert port == 4000
        assert trio.current_time() < home.fake.ports[port].until
    assert home.told == [Endpoint(PUBLIC, 4000)]
    assert mapping.status.state is MappingState.MAPPED
    assert mapping.status.method is MappingMethod.PCP
    assert mapping.status.external == Endpoint(PUBLIC, 4000)


@pytest.mark.parametrize("external", ["0.0.0.0", "255.255.255.255", "127.0.0.1"])
async def test_a_router_without_an_address_of_its_own_forwards_nothing(
    autojump_clock: Clock, nursery: trio.Nursery, external: str
):
    home = Home(external)
    await nursery.start(home.fake.run)
    mapping = home.mapping()
    nursery.start_soon(mapping.run)
    await trio.sleep(60)
    assert home.told == []
    assert mapping.status.state is MappingState.NONE
    assert external in mapping.status.reason


async def test_leaving_gives_the_port_back(
    autojump_clock: Clock, nursery: trio.Nursery
):
    home = Home()
    await nursery.start(home.fake.run)
    mapping = home.mapping()
    nursery.start_soon(mapping.run)
    await trio.sleep(1)
    await mapping.leave()
    await trio.sleep(1)
    assert home.fake.ports == {}
    assert home.told == [Endpoint(PUBLIC, 4000), None]
    await mapping.leave()


async def test_a_router_that_was_restarted_is_asked_again_at_the_renewal(
    autojump_clock: Clock, nursery: trio.Nursery
):
    home = Home()
    await nursery.start(home.fake.run)
    nursery.start_soon(home.mapping().run)
    await trio.sleep(60)
    home.fake.restart()
    await trio.sleep(600)
    assert list(home.fake.ports) == [4000]


async def test_a_mapping_that_is_lost_is_told(
    autojump_clock: Clock, nursery: trio.Nursery
):
    home = Home()
    await nursery.start(home.fake.run)
    mapping = home.mapping()
    nursery.start_soon(mapping.run)
    await trio.sleep(60)
    home.fake.refuses = True
    await trio.sleep(600)
    assert home.told == [Endpoint(PUBLIC, 4000), None]
    assert mapping.status.state is MappingState.NONE
    assert "not authorized" in mapping.status.reason


async def test_ways_are_asked_in_their_order_until_one_works(
    autojump_clock: Clock, nursery: trio.Nursery
):
    home = Home()
    await nursery.start(home.fake.run)
    first, last = Refusing(), Refusing()
    mapping = home.mapping(first, home.control, last)
    nursery.start_soon(mapping.run)
    await trio.sleep(60)
    assert mapping.status.state is MappingState.MAPPED
    assert (first.asked, last.asked) == (1, 0)


async def test_after_refusals_it_is_asked_again_seldom_or_after_a_move(
    autojump_clock: Clock, nursery: trio.Nursery
):
    refusing = Refusing()
    mapping = Home().mapping(refusing)
    nursery.start_soon(mapping.run)
    await trio.sleep(60)
    assert mapping.status.reason == "not here"
    await trio.sleep(3600)
    asked = refusing.asked
    assert asked <= 5
    mapping.look_again()
    await trio.sleep(1)
    assert refusing.asked == asked + 1


async def test_a_way_that_hangs_is_given_up(
    autojump_clock: Clock, nursery: trio.Nursery
):
    mapping = Home().mapping(Refusing(delay_s=1000))
    assert mapping.status.state is MappingState.ASKING
    nursery.start_soon(mapping.run)
    await trio.sleep(16)
    assert mapping.status.state is MappingState.NONE
    assert "does not answer" in mapping.status.reason


async def test_an_external_address_that_is_private_is_told_apart(
    autojump_clock: Clock, nursery: trio.Nursery
):
    home = Home(external="100.64.0.7")
    await nursery.start(home.fake.run)
    mapping = home.mapping()
    nursery.start_soon(mapping.run)
    await trio.sleep(1)
    assert mapping.status.state is MappingState.BEHIND_ANOTHER


async def test_a_permanent_mapping_is_renewed_and_left_if_it_cannot_be_returned(
    autojump_clock: Clock, nursery: trio.Nursery
):
    way = Permanent()
    mapping = Home().mapping(way)
    nursery.start_soon(mapping.run)
    await trio.sleep(1300)
    assert way.asked == 3
    await mapping.leave()


async def test_without_a_router_the_reason_is_told(
    autojump_clock: Clock, nursery: trio.Nursery
):
    mapping = PortMapping(4000, lambda: ())
    nursery.start_soon(mapping.run)
    await trio.sleep(1)
    assert mapping.status.state is MappingState.NONE
    assert "no router" in mapping.status.reason


@pytest.mark.parametrize("moment_s", [0.0005, 0.01])
async def test_it_can_be_cancelled_at_any_moment(autojump_clock: Clock, moment_s):
    home = Home()
    async with trio.open_nursery() as nursery:
        await nursery.start(home.fake.run)
        nursery.start_soon(home.mapping().run)
        await trio.sleep(moment_s)
        nursery.cancel_scope.cancel()
