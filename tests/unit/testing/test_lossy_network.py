# pytest-trio takes the clock of a test from its arguments.

import random

import pytest
import trio
from trio.abc import Clock

from opnode.core.addresses import Endpoint
from opnode.core.errors import ConfigError
from opnode.drivers.network.network import segments_of
from opnode.testing.lossy_network import LossyNetwork, LossySocket
from opnode.testing.virtual_network import VirtualNetwork
from opnode.testing.virtual_socket import VirtualSocket
from tests.network_contract import NetworkContract


class TestWithoutLossItIsANetwork(NetworkContract):
    @pytest.fixture
    def network(self) -> LossyNetwork:
        inner = VirtualNetwork(random.Random(1)).host("10.0.0.1")
        return LossyNetwork(inner, random.Random(1), 0.0)

    @pytest.fixture
    def clock(self, autojump_clock: Clock) -> Clock:
        return autojump_clock

    @pytest.fixture
    def address(self) -> str:
        return "10.0.0.1"


async def lossy_pair(loss: float) -> tuple[LossySocket, VirtualSocket]:
    world = VirtualNetwork(random.Random(1))
    network = LossyNetwork(world.host("10.0.0.1"), random.Random(1), loss)
    lossy = await network.bind(Endpoint("10.0.0.1", 7))
    plain = await world.host("10.0.0.2").bind_virtual(Endpoint("10.0.0.2", 7))
    assert isinstance(lossy, LossySocket)
    return lossy, plain


def drained(sock) -> list[bytes]:
    found: list[bytes] = []
    while (received := sock.receive()) is not None:
        parts = segments_of(received.buffer, received.segment_size or 1)
        found += map(bytes, parts) if received.buffer else [b""]
    return found


RUN = b"".join(number.to_bytes(2) * 50 for number in range(200))


@pytest.mark.parametrize("outwards", [True, False])
async def test_packets_inside_of_runs_are_lost_one_by_one_at_the_given_rate(
    autojump_clock: Clock, outwards: bool
):
    lossy, plain = await lossy_pair(0.1)
    sender, receiver = (lossy, plain) if outwards else (plain, lossy)
    arrived: list[bytes] = []
    for _ in range(20):
        sender.send(RUN + b"end", receiver.local, 100)
        arrived += drained(receiver)
    assert 0.07 < lossy.lost / 4020 < 0.13
    assert len(arrived) == 4020 - lossy.lost
    assert {len(packet) for packet in arrived} <= {100, 3}


async def test_a_single_datagram_and_an_empty_one_can_be_lost(autojump_clock: Clock):
    lossy, plain = await lossy_pair(0.5)
    for _ in range(100):
        assert lossy.send(b"x", plain.local)
        assert lossy.send(b"", plain.local)
    arrived = drained(plain)
    assert 50 < arrived.count(b"x") + arrived.count(b"") < 150
    assert 20 < arrived.count(b"x") < 80


async def test_the_same_seed_loses_the_same_packets(autojump_clock: Clock):
    arrivals = []
    for _ in range(2):
        lossy, plain = await lossy_pair(0.2)
        lossy.send(RUN, plain.local, 100)
        arrivals.append(drained(plain))
    assert arrivals[0] == arrivals[1]


@pytest.mark.parametrize("loss", [-0.1, 1.0, 2])
def test_a_loss_that_leaves_nothing_is_refused(loss: float):
    with pytest.raises(ConfigError, match="loss"):
        LossyNetwork(
            VirtualNetwork(random.Random(1)).host("10.0.0.1"), random.Random(1), loss
        )


async def test_closing_closes_the_socket_below(autojump_clock: Clock):
    lossy, _ = await lossy_pair(0.2)
    lossy.close()
    with pytest.raises(trio.ClosedResourceError):
        lossy.receive()
