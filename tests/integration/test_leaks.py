"""A thousand connects and closes leave the process as it was."""

import gc
import os
from pathlib import Path

import pytest
import trio

from opnode.protocols.introductions.introducer import IntroducerConfig
from opnode.testing.overlay import entry_of, open_seed, open_user

pytestmark = [pytest.mark.integration, pytest.mark.slow]

GENEROUS = IntroducerConfig(offers_burst=1e6)
DESCRIPTORS = Path("/proc/self/fd")
CYCLES = 1000
WARM_UP = 700
"""Fills the bounded memories: 512 answers, 512 replies, 256 samples of round trips."""


def descriptors():
    return len(list(DESCRIPTORS.iterdir()))


def resident_bytes():
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGESIZE")


def settled():
    gc.collect()
    tasks = trio.lowlevel.current_statistics().tasks_living
    return descriptors(), tasks, resident_bytes()


async def echo_all(node):
    async with trio.open_nursery() as nursery:

        async def serve(connection):
            try:
                channel = await connection.accept_channel()
                await channel.send_all(await channel.receive_some())
                await connection.closed.wait()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await connection.aclose()

        while True:
            nursery.start_soon(serve, await node.accept_connection())


async def cycle(caller, callee):
    connection = await caller.connect(callee.peer_id)
    channel = await connection.open_channel()
    await channel.send_all(b"x")
    assert await channel.receive_some() == b"x"
    await connection.aclose()
    await connection.closed.wait()


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="reads Linux's /proc")
async def test_a_thousand_connections_leave_no_descriptor_task_or_memory():
    async with (
        open_seed(introducer=GENEROUS) as seed,
        open_user([entry_of(seed)]) as alice,
        open_user([entry_of(seed)]) as bob,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(echo_all, bob)
        for _ in range(WARM_UP):
            await cycle(alice, bob)
        await trio.sleep(1)
        before = settled()
        for _ in range(CYCLES):
            await cycle(alice, bob)
        await trio.sleep(1)
        after = settled()
        assert alice.connector.connections() == []
        assert bob.connector.connections() == []
        assert after[0] == before[0]
        assert after[1] == before[1]
        # 8 MB is what the allocator keeps or gives back between two looks; a leak of
        # one connection's state (20 kB) per cycle would be 20 MB.
        assert after[2] - before[2] < 8e6
        nursery.cancel_scope.cancel()
