"""Whole nodes in one process: a seed and end-user nodes, on any network.

The same nodes that users run; only network and clocks may be virtual.
"""

import contextlib
import dataclasses
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from opnode.core.addresses import Endpoint
from opnode.drivers.background import open_background
from opnode.drivers.clock import WallClock
from opnode.drivers.network.network import Network
from opnode.node.bootstrap import BootstrapEntry
from opnode.node.config import EVERY_INTERFACE, NodeConfig, Role
from opnode.node.node import OverlayNode, open_node
from opnode.protocols.introductions.introducer import IntroducerConfig
from opnode.testing.addresses import Addresses
from opnode.testing.clock import VirtualWallClock
from opnode.testing.nat import INSIDE, MOBILE_INSIDE, InsideHost, VirtualNat
from opnode.testing.nat_behaviour import PRESETS, NatBehaviour
from opnode.testing.virtual_network import Link, VirtualHost, VirtualNetwork

PORT: Final = 4000
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


Home = str | NatBehaviour | VirtualNat | InsideHost
"""Where a user is: a new box of that kind, or one that is there, or a host of one."""


@dataclass(frozen=True, slots=True, eq=False)
class _Life:
    """Ends a node; ``host`` is its own when it is behind a box."""

    scope: trio.CancelScope
    ended: trio.Event
    host: InsideHost | None


class Overlay:
    """Whole nodes on one virtual network, each in a task of its own.

    Attributes:
        network: its hosts are 10.0.0.1, 10.0.0.2 and so on, or public ones.
        entries: how to join, one for each seed.
        seeds: all that were started.
    """

    def __init__(
        self, nursery: trio.Nursery, link: Link, seed: int, *, public: bool = False
    ) -> None:
        # Simulated jitter must repeat from its seed; nothing here is secret.
        rng = random.Random(seed)  # noqa: S311
        self.network = VirtualNetwork(rng, link, traces_contents=False)
        self.wall_clock = VirtualWallClock()
        self.entries: list[BootstrapEntry] = []
        self.seeds: list[OverlayNode] = []
        self._nursery = nursery
        self._seed = seed
        self._addresses = Addresses(seed, public=public)
        self._lives: dict[OverlayNode, _Life] = {}

    async def seed(self, config: NodeConfig | None = None) -> OverlayNode:
        """Start one more seed, on the next host.

        Args:
            config: what it is told besides its role, address and bootstrap.
        """
        address = self._addresses.next()
        told = dataclasses.replace(
            config or NodeConfig(),
            listen=Endpoint(address, PORT),
            role=Role.SERVER,
            has_identity=False,
            bootstrap=tuple(self.entries[:1]),
        )
        node = await self._start(told, self.network.host(address), address)
        await node.wait_joined()
        self.entries.append(entry_of(node))
        self.seeds.append(node)
        return node

    async def user(
        self,
        *,
        max_unaccepted: int = 64,
        role: Role = Role.AUTO,
        behind: Home | None = None,
        config: NodeConfig | None = None,
    ) -> OverlayNode:
        """Start one more end-user node and wait until it is found.

        Args:
            max_unaccepted: see `NodeConfig`.
            role: see `NodeConfig`; without a box whoever may becomes a server.
            behind: where it is; on the next host of the network by default.
            config: in place of the two above; its bootstrap is the first seed unless
                it has one. It listens on port 4000.
        """
        node = await self.start_user(
            behind,
            config or NodeConfig(max_unaccepted=max_unaccepted, role=role),
        )
        await node.wait_published()
        return node

    async def start_user(
        self, behind: Home | None = None, config: NodeConfig | None = None
    ) -> OverlayNode:
        """Like `user`, but wait for nothing."""
        told = config or NodeConfig()
        bootstrap = told.bootstrap or tuple(self.entries[:1])
        place: InsideHost | VirtualHost
        if behind is None:
            place = self.network.host(self._addresses.next())
            listen = Endpoint(place.address, PORT)
            label = place.address
        else:
            place = self._host_behind(behind)
            assert place.nat is not None
            listen = Endpoint(EVERY_INTERFACE.host, PORT)
            label = f"{place.nat.address} {place.address}"
        told = dataclasses.replace(told, listen=listen, bootstrap=bootstrap)
        return await self._start(told, place, label)

    def next_address(self) -> str:
        """An address that nobody has."""
        return self._addresses.next()

    def nat(self, kind: str | NatBehaviour, inside: str = INSIDE) -> VirtualNat:
        """One more box on the network, at the next address.

        Args:
            kind: a preset or a behaviour.
            inside: see `VirtualNat`; others than at home for whoever moves: mobile
                networks have their own.
        """
        behaviour = PRESETS[kind] if isinstance(kind, str) else kind
        address = self._addresses.next()
        rng = self.rng(address)
        return VirtualNat(self.network, address, behaviour, rng, inside)

    def host_of(self, node: OverlayNode) -> InsideHost:
        """The host of a node behind a box."""
        host = self._lives[node].host
        assert host is not None, "this node is behind no box"
        return host

    def nat_of(self, node: OverlayNode) -> VirtualNat:
        """The box that a node is behind."""
        nat = self.host_of(node).nat
        assert nat is not None, "this node has no coverage"
        return nat

    def start_soon(
        self, task: Callable[[OverlayNode], Awaitable[None]], node: OverlayNode
    ) -> None:
        """Do something with a node in the background, until the overlay ends."""
        self._nursery.start_soon(task, node)

    def rng(self, label: str) -> random.Random:
        """A generator of its own for each label: what it gives follows from the seed.

        Nothing that comes of it is secret.
        """
        return random.Random(f"{self._seed} {label}")  # noqa: S311 - repeatable

    def move(self, node: OverlayNode) -> None:
        """Take a node's host to another box of the same kind, as from Wi-Fi to mobile.

        Its addresses are others then, inside and outside.
        """
        behaviour = self.nat_of(node).behaviour
        self.host_of(node).move_to(self.nat(behaviour, MOBILE_INSIDE))

    async def stop(self, node: OverlayNode) -> None:
        """End a node in order: it says good-bye."""
        life = self._lives.pop(node)
        life.scope.cancel()
        await life.ended.wait()

    async def kill(self, node: OverlayNode) -> None:
        """End a node without a word; its host is dead, too, or without a box."""
        host = self._lives[node].host
        if host is None:
            self.network.kill(node.endpoint.host)
        else:
            host.move_to(None)
        await self.stop(node)

    async def _start(
        self, config: NodeConfig, place: InsideHost | VirtualHost, label: str
    ) -> OverlayNode:
        node, life = await self._nursery.start(self._live, config, place, label)
        assert isinstance(node, OverlayNode)
        self._lives[node] = life
        return node

    async def _live(
        self,
        config: NodeConfig,
        place: InsideHost | VirtualHost,
        label: str,
        *,
        task_status: trio.TaskStatus[tuple[OverlayNode, _Life]],
    ) -> None:
        host = place if isinstance(place, InsideHost) else None
        life = _Life(trio.CancelScope(), trio.Event(), host)
        try:
            with life.scope:
                async with open_node(
                    config,
                    network=place,
                    wall_clock=self.wall_clock,
                    rng=self.rng(label),
                ) as node:
                    task_status.started((node, life))
                    await trio.sleep_forever()
        finally:
            life.ended.set()

    def _host_behind(self, home: Home) -> InsideHost:
        if isinstance(home, InsideHost):
            return home
        nat = home if isinstance(home, VirtualNat) else self.nat(home)
        return nat.host()


@contextlib.asynccontextmanager
async def open_overlay(
    seeds: int = 1,
    *,
    link: Link | None = None,
    seed: int = 1,
    public: bool = False,
) -> AsyncIterator[Overlay]:
    """An overlay of ``seeds`` seeds on a virtual network, in virtual time.

    Boxes want public addresses: what is private is trusted less from outside.
    """
    async with open_background() as nursery:
        wires = link or Link(latency_s=(0.01, 0.03))
        overlay = Overlay(nursery, wires, seed, public=public)
        for _ in range(seeds):
            await overlay.seed()
        yield overlay
