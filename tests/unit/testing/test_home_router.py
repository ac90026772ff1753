import random

import pytest
import trio
from trio.abc import Clock

from opnode.drivers.router.home_router import HomeRouter
from opnode.drivers.router.mappings import MappingMethod
from opnode.testing.home_router import FakeHomeRouter
from opnode.testing.virtual_network import Link, VirtualHost, VirtualNetwork
from tests.router_contract import RouterContract

ROUTER, OURS = "192.168.1.1", "192.168.1.2"


@pytest.fixture
def clock(autojump_clock: Clock):
    return autojump_clock


class TestTheFakeSpeaksPcp(RouterContract):
    knows_pcp = True

    @pytest.fixture
    def wires(self) -> VirtualNetwork:
        return VirtualNetwork(random.Random(1), Link(latency_s=(0.001, 0.002)))

    @pytest.fixture
    def network(self, wires: VirtualNetwork) -> VirtualHost:
        return wires.host(OURS)

    @pytest.fixture
    def external(self) -> str:
        return "203.0.113.1"

    @pytest.fixture
    async def router(self, wires: VirtualNetwork, external: str, nursery: trio.Nursery):
        fake = FakeHomeRouter(wires.host(ROUTER), ROUTER, external)
        fake.knows_pcp = self.knows_pcp
        await nursery.start(fake.run)
        return HomeRouter(ROUTER, OURS)


class TestTheFakeSpeaksNatPmp(TestTheFakeSpeaksPcp):
    knows_pcp = False
    method = MappingMethod.NAT_PMP
