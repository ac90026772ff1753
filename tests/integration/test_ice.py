import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.drivers.asyncio_island import open_island
from opnode.drivers.ice.ice import IceAgent, IceSession
from opnode.drivers.network.network import SystemNetwork
from opnode.drivers.socket_hub import SocketHub

pytestmark = pytest.mark.integration


@asynccontextmanager
async def two_agents(*hosts: str) -> AsyncIterator[list[IceAgent]]:
    network = SystemNetwork()
    agents: list[IceAgent] = []
    async with open_island() as island, trio.open_nursery() as nursery:
        for host in hosts:
            hub = SocketHub(await network.bind(Endpoint(host, 0)))
            await nursery.start(hub.run)
            agents.append(IceAgent(hub, island, network))
        try:
            yield agents
        finally:
            for agent in agents:
                agent.context.hub.close()
            nursery.cancel_scope.cancel()


async def connect(agents: list[IceAgent]) -> tuple[IceSession, IceSession]:
    one = agents[0].new_session(controlling=True)
    other = agents[1].new_session(controlling=False)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.connect, other.local, 0.05)
            nursery.start_soon(other.connect, one.local, 0.05)
    return one, other


async def test_two_agents_on_loopback_sockets_find_each_other():
    async with two_agents("127.0.0.1", "127.0.0.1") as agents:
        one = agents[0].new_session(controlling=True)
        other = agents[1].new_session(controlling=False)
        found: list[Endpoint] = []

        async def callee() -> None:
            found.append(await other.connect(one.local, 0.05))

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(callee)
                found.append(await one.connect(other.local, 0.05))
        assert set(found) == {agent.context.hub.local for agent in agents}
        await one.close()
        await other.close()


async def test_two_agents_on_wildcard_sockets_find_each_other():
    async with two_agents("0.0.0.0", "0.0.0.0") as agents:
        for session in await connect(agents):
            await session.close()


async def test_the_callee_may_start_long_before_the_caller():
    async with two_agents("127.0.0.1", "127.0.0.1") as agents:
        one = agents[0].new_session(controlling=True)
        other = agents[1].new_session(controlling=False)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(other.connect, one.local, 0.05)
                for _ in range(200):
                    await trio.lowlevel.checkpoint()
                await one.connect(other.local, 0.05)
        await one.close()
        await other.close()


async def test_many_connects_leave_no_descriptors_sessions_or_transactions():
    async with two_agents("127.0.0.1", "127.0.0.1") as agents:
        for session in await connect(agents):
            await session.close()
        gc.collect()
        objects, descriptors = len(gc.get_objects()), len(list(descriptors_open()))
        for _ in range(100):
            for session in await connect(agents):
                await session.close()
        gc.collect()
        assert len(list(descriptors_open())) == descriptors
        # A session is hundreds of objects. What stays for a while is not ours: two for
        # each deadline that trio has not yet swept out, two for each timer not yet due.
        assert len(gc.get_objects()) - objects < 1000
        for agent in agents:
            assert agent.statistics().sessions == 0
            assert agent.statistics().transactions == 0


def descriptors_open() -> list[str]:
    directory = Path("/proc/self/fd")
    return [path.name for path in directory.iterdir()] if directory.exists() else []


async def test_junk_from_a_stranger_neither_stops_nor_breaks_a_session():
    async with two_agents("127.0.0.1", "127.0.0.1") as agents:
        target = agents[1].context.hub.local
        stranger = await SystemNetwork().bind(Endpoint("127.0.0.1", 0))
        head = b"\x21\x12\xa4\x42"
        for first in range(4):
            for size in range(60):
                junk = bytes([first, size % 3]) + size.to_bytes(2) + head + bytes(size)
                stranger.send(junk, target)
        for session in await connect(agents):
            await session.close()
        stranger.close()
        assert agents[1].context.hub.statistics().handler_errors == 0
        assert agents[1].context.hub.statistics().stun > 100
