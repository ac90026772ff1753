"""Whole nodes in one process: a seed and end-user nodes, on any network.

The same nodes that users run; only network and clocks may be virtual.
"""

import contextlib
import random
from collections.abc import AsyncIterator, Sequence

from opnode.core.addresses import Endpoint
from opnode.drivers.clock import WallClock
from opnode.drivers.network import Network
from opnode.node.bootstrap import BootstrapEntry
from opnode.node.config import NodeConfig, Role
from opnode.node.node import OverlayNode, open_node

LOOPBACK = Endpoint("127.0.0.1", 0)


def entry_of(node: OverlayNode) -> BootstrapEntry:
    """How others join through ``node``."""
    return BootstrapEntry.parse(node.invite())


@contextlib.asynccontextmanager
async def open_seed(
    *,
    network: Network | None = None,
    wall_clock: WallClock | None = None,
    rng: random.Random | None = None,
    listen: Endpoint = LOOPBACK,
    bootstrap: Sequence[BootstrapEntry] = (),
) -> AsyncIterator[OverlayNode]:
    """A server node without an identity, joined."""
    config = NodeConfig(
        listen=listen,
        role=Role.SERVER,
        has_identity=False,
        bootstrap=tuple(bootstrap),
    )
    async with open_node(
        config, network=network, wall_clock=wall_clock, rng=rng
    ) as node:
        await node.wait_joined()
        yield node


@contextlib.asynccontextmanager
async def open_user(
    bootstrap: Sequence[BootstrapEntry],
    *,
    network: Network | None = None,
    wall_clock: WallClock | None = None,
    rng: random.Random | None = None,
    listen: Endpoint = LOOPBACK,
    max_unaccepted: int = 64,
) -> AsyncIterator[OverlayNode]:
    """An end-user node with fresh keys, joined and published."""
    config = NodeConfig(
        listen=listen, bootstrap=tuple(bootstrap), max_unaccepted=max_unaccepted
    )
    async with open_node(
        config, network=network, wall_clock=wall_clock, rng=rng
    ) as node:
        await node.wait_published()
        yield node
