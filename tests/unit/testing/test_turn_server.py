import random

import pytest
import trio
from trio.abc import Clock

from opnode.core.addresses import Endpoint
from opnode.drivers.turn.turn import TurnServer, TurnTransport
from opnode.testing.turn_server import FakeTurnServer
from opnode.testing.virtual_network import Link, VirtualHost, VirtualNetwork
from tests.turn_contract import TurnContract

SERVER = Endpoint("10.0.0.1", 3478)


@pytest.fixture
def clock(autojump_clock: Clock):
    return autojump_clock


class TestTheFakeIsATurnServer(TurnContract):
    nonce_s = 3600.0

    @pytest.fixture
    def network(self) -> VirtualHost:
        link = Link(latency_s=(0.01, 0.01))
        return VirtualNetwork(random.Random(1), link).host("10.0.0.1")

    @pytest.fixture
    def address(self) -> str:
        return "10.0.0.1"

    @pytest.fixture
    async def server(
        self,
        clock: Clock,  # noqa: ARG002 - the server's time, too
        network: VirtualHost,
        nursery: trio.Nursery,
    ):
        fake = FakeTurnServer(
            network,
            SERVER,
            username="me",
            password="secret",  # noqa: S106 - of the fake
            rng=random.Random(2),
            nonce_s=self.nonce_s,
        )
        await nursery.start(fake.run)
        return TurnServer(
            host=SERVER.host,
            port=SERVER.port,
            transport=TurnTransport.UDP,
            username="me",
            password="secret",  # noqa: S106 - of the fake
        )


class TestTheFakeWithStaleNonces(TestTheFakeIsATurnServer):
    nonce_s = 0.2
