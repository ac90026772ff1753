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
from opnode.protocols.introductions.introducer import IntroducerConfig
from opnode.testing.clock import VirtualWallClock
from opnode.testing.virtual_network import Link, VirtualNetwork

LOOPBACK = Endpoint("127.0.0.1", 0)


def entry_of(node: OverlayNode) -> BootstrapEntry:
    """How others join through ``node``."""
    invite = node.invite()
    assert invite is not None, "nobody joins through a leaf"
    return BootstrapEntry.parse(invite)


@contextlib.asynccontextmanager
async def open_seed(
    *,
    network: Network | None = None,
    wall_clock: WallClock | None = None,
    rng: random.Random | None = None,
    listen: Endpoint = LOOPBACK,
    bootstrap: Sequence[BootstrapEntry] = (),
    introducer: IntroducerConfig | None = None,
) -> AsyncIterator[OverlayNode]:
    """A server node without an identity, joined."""
    config = NodeConfig(
        listen=listen,
        role=Role.SERVER,
        has_identity=False,
        bootstrap=tuple(bootstrap),
        introducer=introducer or IntroducerConfig(),
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


class Overlay:
    """Whole nodes on one virtual network; hosts are 10.0.0.1, 10.0.0.2 and so on."""

    def __init__(self, stack: contextlib.AsyncExitStack, link: Link, seed: int) -> None:
        # Simulated jitter must repeat from its seed; nothing here is secret.
        self.network = VirtualNetwork(random.Random(seed), link)  # noqa: S311
        self.wall_clock = VirtualWallClock()
        self.entries: list[BootstrapEntry] = []
        self._stack = stack
        self._seed = seed
        self._hosts = 0

    async def seed(self) -> OverlayNode:
        """Start one more seed, on the next host."""
        address, rng = self._next()
        node = await self._stack.enter_async_context(
            open_seed(
                bootstrap=self.entries[:1],
                network=self.network.host(address),
                wall_clock=self.wall_clock,
                rng=rng,
                listen=Endpoint(address, 4000),
            )
        )
        self.entries.append(entry_of(node))
        return node

    async def user(
        self, *, max_unaccepted: int = 64, role: Role = Role.AUTO
    ) -> OverlayNode:
        """Start one more end-user node, on the next host, and wait until it is found.

        Nothing is translated on a virtual network, so whoever may becomes a server.
        """
        address, rng = self._next()
        config = NodeConfig(
            listen=Endpoint(address, 4000),
            bootstrap=tuple(self.entries[:1]),
            max_unaccepted=max_unaccepted,
            role=role,
        )
        node = await self._stack.enter_async_context(
            open_node(
                config,
                network=self.network.host(address),
                wall_clock=self.wall_clock,
                rng=rng,
            )
        )
        await node.wait_published()
        return node

    def _next(self) -> tuple[str, random.Random]:
        self._hosts += 1
        address = f"10.0.0.{self._hosts}"
        # As above: repeatable, not secret.
        return address, random.Random(f"{self._seed} {address}")  # noqa: S311


@contextlib.asynccontextmanager
async def open_overlay(
    seeds: int = 1, *, link: Link | None = None, seed: int = 1
) -> AsyncIterator[Overlay]:
    """An overlay of ``seeds`` seeds on a virtual network, in virtual time."""
    async with contextlib.AsyncExitStack() as stack:
        overlay = Overlay(stack, link or Link(latency_s=(0.01, 0.03)), seed)
        for _ in range(seeds):
            await overlay.seed()
        yield overlay
