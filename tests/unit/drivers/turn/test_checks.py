import random
from collections.abc import AsyncIterator

import pytest
import trio
from trio.abc import Clock

from opnode.core.addresses import Endpoint, IceHalf
from opnode.core.errors import IceFailed
from opnode.drivers.asyncio_island import Island, open_island
from opnode.drivers.ice.ice import IceAgent
from opnode.drivers.socket_hub import SocketHub
from opnode.drivers.turn.checks import RelayedChecks
from opnode.testing.virtual_network import Link, VirtualNetwork

ONE, OTHER = Endpoint("10.0.0.1", 1000), Endpoint("10.0.0.2", 1000)
NOBODY = Endpoint("10.0.0.3", 1000)
RTO_S = 0.2


class End:
    """An agent, its half and the checks with the other end."""

    def __init__(self, agent: IceAgent, name: str) -> None:
        self.agent = agent
        self.half = IceHalf(name * 4, name * 24, ())
        self.heard: list[Endpoint] = []

    def meet(self, other: "End", island: Island, *, is_initiator: bool) -> None:
        self.checks = RelayedChecks(
            island,
            self.agent.context,
            local=self.half,
            remote=other.half,
            is_initiator=is_initiator,
            on_heard=self.heard.append,
        )
        self.agent.add_answerer(self.checks)


class World:
    def __init__(self, network: VirtualNetwork, one: End, other: End) -> None:
        self.network = network
        self.one = one
        self.other = other


@pytest.fixture
async def world(autojump_clock: Clock, nursery: trio.Nursery) -> AsyncIterator[World]:
    network = VirtualNetwork(random.Random(1), Link(latency_s=(0.05, 0.05)))
    async with open_island() as island:
        ends = []
        for number, endpoint in enumerate((ONE, OTHER)):
            host = network.host(endpoint.host)
            hub = SocketHub(await host.bind(endpoint))
            await nursery.start(hub.run)
            secrets = random.Random(number).randbytes
            agent = IceAgent(hub, island, host, random_bytes=secrets)
            ends.append(End(agent, "ab"[number]))
        ends[0].meet(ends[1], island, is_initiator=True)
        ends[1].meet(ends[0], island, is_initiator=False)
        yield World(network, *ends)


async def test_a_peer_that_is_there_is_proven_in_one_round_trip(
    world: World, autojump_clock: Clock
):
    assert await world.one.checks.prove(OTHER, RTO_S) == pytest.approx(0.1)
    assert world.other.heard == [ONE]
    assert world.one.agent.statistics().transactions == 0


async def test_an_address_without_the_peer_is_not_proven(
    world: World, autojump_clock: Clock
):
    with pytest.raises(IceFailed, match="through TURN"):
        await world.one.checks.prove(NOBODY, RTO_S)
    assert world.one.agent.statistics().transactions == 0


async def test_who_was_called_sends_one_request_until_it_heard_of_the_caller(
    world: World, autojump_clock: Clock
):
    before = world.network.statistics().sent
    with pytest.raises(IceFailed):
        await world.other.checks.prove(NOBODY, RTO_S)
    assert world.network.statistics().sent - before == 1
    world.other.checks.trust()
    before = world.network.statistics().sent
    with pytest.raises(IceFailed):
        await world.other.checks.prove(NOBODY, RTO_S)
    assert world.network.statistics().sent - before == 10


async def test_a_lost_request_is_repeated(world: World, autojump_clock: Clock):
    world.network.link = Link(latency_s=(0.05, 0.05), loss=0.3)
    for _ in range(5):
        assert await world.one.checks.prove(OTHER, RTO_S) > 0.09


async def test_a_request_with_the_wrong_signature_is_not_answered(
    world: World, autojump_clock: Clock
):
    world.other.checks._local_key = b"another"
    with pytest.raises(IceFailed):
        await world.one.checks.prove(OTHER, RTO_S)
    assert world.other.agent.statistics().unauthenticated > 0
    assert world.other.heard == []


async def test_an_answer_with_the_wrong_signature_proves_nothing(
    world: World, autojump_clock: Clock
):
    answer = world.other.checks.receive_request_untrusted

    def forge(message, source):
        message.check_message_integrity = lambda _: True
        world.other.checks._local_key = b"another"
        answer(message, source)

    world.other.checks.receive_request_untrusted = forge
    with pytest.raises(IceFailed):
        await world.one.checks.prove(OTHER, RTO_S)
    assert world.other.heard


async def test_sessions_of_ice_are_not_counted_with_the_checks(
    world: World, autojump_clock: Clock
):
    assert world.one.agent.statistics().sessions == 0
    world.one.agent.remove_answerer(world.one.checks)
    world.one.agent.remove_answerer(world.one.checks)
    with pytest.raises(IceFailed):
        await world.other.checks.prove(ONE, RTO_S)
