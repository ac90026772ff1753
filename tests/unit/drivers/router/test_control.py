import random

import pytest
import trio
from trio.abc import Clock

from opnode.core.addresses import Endpoint
from opnode.core.errors import MappingRefused
from opnode.drivers.router.control import RouterControl
from opnode.drivers.router.home_router import HomeRouter
from opnode.drivers.router.mappings import MappingMethod
from opnode.protocols.port_control import SERVER_PORT
from opnode.testing.home_router import FakeHomeRouter
from opnode.testing.virtual_network import Link, VirtualNetwork

ROUTER, OURS = "192.168.1.1", "192.168.1.2"


class Home:
    def __init__(self) -> None:
        self.network = VirtualNetwork(random.Random(1), Link(latency_s=(0.001, 0.002)))
        self.fake = FakeHomeRouter(self.network.host(ROUTER), ROUTER, "203.0.113.1")
        self.control = RouterControl(
            self.network.host(OURS),
            HomeRouter(ROUTER, OURS),
            random.Random(1).randbytes,
        )


@pytest.fixture
async def home(autojump_clock: Clock, nursery: trio.Nursery) -> Home:
    home = Home()
    await nursery.start(home.fake.run)
    return home


async def test_lost_datagrams_are_repeated(autojump_clock: Clock, home: Home):
    home.network.link = Link(loss=0.3)
    mapped = await home.control.map(4000, 4000, 600)
    assert mapped.external == ("203.0.113.1", 4000)


async def test_a_router_that_is_silent_is_given_up_in_four_seconds(
    autojump_clock: Clock,
):
    control = Home().control
    started_at = trio.current_time()
    with pytest.raises(MappingRefused, match="neither PCP nor NAT-PMP"):
        await control.map(4000, 4000, 600)
    assert trio.current_time() - started_at == pytest.approx(3.75)


@pytest.mark.parametrize("knows_pcp", [True, False])
async def test_a_refusal_is_told_with_its_reason(
    autojump_clock: Clock, home: Home, knows_pcp: bool
):
    home.fake.refuses = True
    home.fake.knows_pcp = knows_pcp
    with pytest.raises(MappingRefused, match="not authorized"):
        await home.control.map(4000, 4000, 600)


async def test_what_is_not_from_the_router_is_not_believed(
    autojump_clock: Clock, home: Home, nursery: trio.Nursery
):
    neighbour = await home.network.host("192.168.1.9").bind(
        Endpoint("192.168.1.9", SERVER_PORT)
    )
    home.fake.knows_pcp = False

    async def forge() -> None:
        address = bytes.fromhex("0080 0000 00000064 06060606")
        while True:
            for port in range(49_152, 49_160):
                neighbour.send(address, Endpoint(OURS, port))
            await trio.sleep(0.0001)

    nursery.start_soon(forge)
    mapped = await home.control.map(4000, 4000, 600)
    assert mapped.external.host == "203.0.113.1"


async def test_junk_of_the_router_is_dropped(autojump_clock: Clock, home: Home):
    honest = home.fake._serve_pcp

    def junk_first(data, source):
        home.fake._serve_pcp = honest
        return b"\x02junk"

    home.fake._serve_pcp = junk_first
    mapped = await home.control.map(4000, 4000, 600)
    assert mapped.method is MappingMethod.PCP


async def test_a_mapping_of_another_is_not_taken_for_ours(
    autojump_clock: Clock, home: Home
):
    honest = home.fake._serve_pcp

    def others(data, source):
        answer = bytearray(honest(data, source))
        answer[24] ^= 1
        return bytes(answer)

    home.fake._serve_pcp = others
    with pytest.raises(MappingRefused, match="neither"):
        await home.control.map(4000, 4000, 600)


async def test_without_an_address_in_its_network_there_is_no_mapping(
    autojump_clock: Clock, home: Home
):
    control = RouterControl(
        home.network.host(OURS), HomeRouter(ROUTER, "192.168.1.77"), bytes
    )
    with pytest.raises(MappingRefused, match="no socket"):
        await control.map(4000, 4000, 600)
