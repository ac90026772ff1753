"""The real backend: the node's own code on a virtual network and a virtual clock.

Owns what all real scenarios have in common. Refuses to know what they measure.
"""

import abc
from typing import Annotated, ClassVar, Final, Generic, NamedTuple

import trio

from opnode.core.addresses import Endpoint
from opnode.node.config import NodeConfig
from opnode.testing.clock import run_deterministic
from opnode.testing.dht_nodes import DhtNetwork
from opnode.testing.overlay import Overlay, open_overlay
from opnode.testing.seeded_secrets import seeded_secrets
from opnode.testing.virtual_network import Link, VirtualNetwork
from simulations.backends.datagram_words import in_words
from simulations.backends.real_checks import DhtChecks
from simulations.model.durations import LATENCY_S
from simulations.run_context import Run
from simulations.scenario import Found_co, Measured, Scenario, parameter

_PAUSE_S: Final = 5.0
"""Between two who join: a node lets only so many into its table within an hour."""


class Performed(NamedTuple, Generic[Found_co]):
    """What a run leaves: what it found, and the network with its counters."""

    figures: Found_co
    network: VirtualNetwork


class RealScenario(Scenario[Found_co], frozen=True, kw_only=True):
    """A scenario on the real backend."""

    link: ClassVar[Link] = Link(latency_s=LATENCY_S)

    @abc.abstractmethod
    async def live(self, run: Run) -> Performed[Found_co]:
        """Build, run and end; in virtual time."""

    def perform(self, run: Run) -> Measured[Found_co]:
        """See `Scenario.perform`."""
        with seeded_secrets(self.seed):
            performed, virtual_s = run_deterministic(self._live, self.seed, run)
        run.fold(bytes.fromhex(performed.network.trace_digest()))
        sent = performed.network.statistics().sent
        return Measured(performed.figures, sent, virtual_s)

    async def _live(self, run: Run) -> tuple[Performed[Found_co], float]:
        performed = await self.live(run)
        return performed, trio.current_time()


class DhtScenario(RealScenario[Found_co], frozen=True, kw_only=True):
    """A scenario on nodes of the DHT, without people on top."""

    maintained: ClassVar[bool] = False

    nodes: Annotated[int, parameter("Nodes of the DHT", low=1, high=20_000)] = 50
    public: Annotated[
        bool,
        parameter(
            "Addresses all over the Internet, each alone in its /24, not in 10/8"
        ),
    ] = False

    @abc.abstractmethod
    async def measure(self, network: DhtNetwork, run: Run) -> Found_co:
        """Measure on a network that has grown."""

    async def live(self, run: Run) -> Performed[Found_co]:
        """See `RealScenario.live`."""
        async with trio.open_nursery() as nursery:
            network = DhtNetwork(nursery, self.seed, self.link, public=self.public)
            try:
                _watch(network.network, run)
                for grown in range(self.nodes):
                    await network.grow(1, pause_s=_PAUSE_S)
                    run.progress(grown + 1, self.nodes, "nodes")
                checks = DhtChecks(network, self.seed)
                network.audit = checks
                nursery.start_soon(checks.watch)
                if self.maintained:
                    network.maintain()
                figures = await self.measure(network, run)
            finally:
                network.close()
            nursery.cancel_scope.cancel()
        return Performed(figures, network.network)


class OverlayScenario(RealScenario[Found_co], frozen=True, kw_only=True):
    """A scenario on whole nodes: servers with public addresses, users behind boxes."""

    servers: Annotated[int, parameter("Servers", low=1, high=1000)] = 8

    @abc.abstractmethod
    async def measure(self, overlay: Overlay, run: Run) -> Found_co:
        """Measure among the servers."""

    def server_config(self) -> NodeConfig:
        """What servers are told."""
        return NodeConfig()

    async def live(self, run: Run) -> Performed[Found_co]:
        """See `RealScenario.live`."""
        async with open_overlay(
            0, link=self.link, seed=self.seed, public=True
        ) as overlay:
            _watch(overlay.network, run)
            for number in range(self.servers):
                await overlay.seed(self.server_config())
                run.progress(number + 1, self.servers, "servers")
            figures = await self.measure(overlay, run)
        return Performed(figures, overlay.network)


def _watch(network: VirtualNetwork, run: Run) -> None:
    """Tell who watches a run of every datagram."""
    if (watch := run.watch) is None:
        return

    def tell(at_s: float, data: bytes, source: Endpoint, destination: Endpoint) -> None:
        watch(at_s, f"{source} > {destination}", in_words(data))

    network.watch = tell
