"""A whole node that comes back when those who let it in are gone.

Owns: the contact cache on a real disk, read by the next run of the node, while every
seed and most of the others are black holes. Refuses to know: how the cache is written,
and real sockets, on which nothing but the time would differ.
"""

import contextlib
import random
import shutil

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.node.config import NodeConfig
from opnode.node.contact_cache import SAVE_EVERY_S
from opnode.node.node import open_node
from opnode.testing.overlay import open_overlay
from opnode.testing.virtual_network import Link

pytestmark = pytest.mark.slow

LINK = Link(latency_s=(0.01, 0.12))
SEEDS = 3
OTHERS = 40
LIMIT_S = 5.0


@contextlib.asynccontextmanager
async def running(overlay, folder, run):
    """The node with its memory on disk; every run is another process's."""
    config = NodeConfig(
        listen=Endpoint("10.0.1.1", 4000),
        data_dir=folder,
        bootstrap=tuple(overlay.entries[:SEEDS]),
    )
    async with open_node(
        config,
        network=overlay.network.host("10.0.1.1"),
        wall_clock=overlay.wall_clock,
        rng=random.Random(run),
    ) as node:
        yield node


async def seconds_to_rejoin(overlay, folder, run):
    started_at = trio.current_time()
    async with running(overlay, folder, run) as node:
        with trio.move_on_after(10 * LIMIT_S):
            await node.wait_joined()
            assert node.contacts()
            return trio.current_time() - started_at
    return 10 * LIMIT_S


async def wait_until(condition, *, at_most_s):
    for _ in range(at_most_s):
        if condition():
            return
        await trio.sleep(1)
    raise AssertionError(f"not after {at_most_s} s")


@contextlib.contextmanager
def black_holes(overlay, entries):
    for entry in entries:
        overlay.network.kill(entry.host)
    yield
    for entry in entries:
        overlay.network.revive(entry.host)


@pytest.mark.parametrize("dead_share", [0.0, 0.5, 0.9])
async def test_a_restart_with_every_seed_dead_rejoins_from_the_contact_cache(
    autojump_clock, tmp_path, dead_share
):
    first, rng = tmp_path / "first", random.Random(1)
    async with open_overlay(SEEDS + OTHERS, link=LINK) as overlay:
        async with running(overlay, first, 0) as node:
            await node.wait_published()
            await trio.sleep(SAVE_EVERY_S + 1)
        times = []
        for run in range(1, 11):
            # Every time from the cache that the first run left.
            folder = shutil.copytree(first, tmp_path / str(run))
            others = rng.sample(overlay.entries[SEEDS:], int(dead_share * OTHERS))
            with black_holes(overlay, overlay.entries[:SEEDS] + others):
                times.append(await seconds_to_rejoin(overlay, folder, run))
        assert max(times) <= LIMIT_S


async def test_a_node_that_lost_everybody_comes_back_without_the_seeds(
    autojump_clock, tmp_path
):
    async with (
        open_overlay(SEEDS + OTHERS, link=LINK) as overlay,
        running(overlay, tmp_path, 0) as node,
    ):
        await node.wait_published()
        with black_holes(overlay, overlay.entries[:SEEDS]):
            with black_holes(overlay, overlay.entries[SEEDS:]):
                await wait_until(lambda: not node.contacts(), at_most_s=3600)
            await wait_until(node.contacts, at_most_s=120)
