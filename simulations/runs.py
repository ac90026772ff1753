"""One run of a scenario: its network, its end, and the command that repeats it.

Owns what all scenarios have in common. Refuses to know what they measure.
"""

import abc
from typing import ClassVar, Final, Generic, NamedTuple, TypeVar

import msgspec
import trio

from opnode.node.config import NodeConfig
from opnode.testing.clock import run_deterministic
from opnode.testing.dht_nodes import DhtNetwork
from opnode.testing.overlay import Overlay, open_overlay
from opnode.testing.seeded_secrets import seeded_secrets
from opnode.testing.virtual_network import Link, VirtualNetwork

LATENCY_S = (0.01, 0.12)
"""One way, uniform: neighbours in a city up to the other side of the globe."""

_PAUSE_S: Final = 5.0
"""Between two who join: a node lets only so many into its table within an hour."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What one run found; ``met`` says whether the scenario's own bar was met."""

    met: bool


Found_co = TypeVar("Found_co", bound=Figures, covariant=True)


class Performed(NamedTuple, Generic[Found_co]):
    """What a run leaves: what it found, and the network with its counters."""

    figures: Found_co
    network: VirtualNetwork


class Scenario(msgspec.Struct, Generic[Found_co], frozen=True, kw_only=True):
    """What all scenarios have; a field is an option of the command line."""

    name: ClassVar[str]
    link: ClassVar[Link] = Link(latency_s=LATENCY_S)

    seed: int = 1

    @abc.abstractmethod
    async def perform(self) -> Performed[Found_co]:
        """Build, run and end; in virtual time."""


class DhtScenario(Scenario[Found_co], frozen=True, kw_only=True):
    """A scenario on nodes of the DHT, without people on top."""

    maintained: ClassVar[bool] = False

    nodes: int = 50
    # Addresses all over the Internet, each alone in its /24, in place of one 10/8.
    public: bool = False

    @abc.abstractmethod
    async def measure(self, network: DhtNetwork, nursery: trio.Nursery) -> Found_co:
        """Measure on a network that has grown; the nursery ends with the run."""

    async def perform(self) -> Performed[Found_co]:
        """See `Scenario.perform`."""
        async with trio.open_nursery() as nursery:
            network = DhtNetwork(nursery, self.seed, self.link, public=self.public)
            try:
                await network.grow(self.nodes, pause_s=_PAUSE_S)
                if self.maintained:
                    network.maintain()
                figures = await self.measure(network, nursery)
            finally:
                network.close()
            nursery.cancel_scope.cancel()
        return Performed(figures, network.network)


class OverlayScenario(Scenario[Found_co], frozen=True, kw_only=True):
    """A scenario on whole nodes: servers with public addresses, users behind boxes."""

    servers: int = 8

    @abc.abstractmethod
    async def measure(self, overlay: Overlay) -> Found_co:
        """Measure among the servers."""

    def server_config(self) -> NodeConfig:
        """What servers are told."""
        return NodeConfig()

    async def perform(self) -> Performed[Found_co]:
        """See `Scenario.perform`."""
        async with open_overlay(
            0, link=self.link, seed=self.seed, public=True
        ) as overlay:
            for _ in range(self.servers):
                await overlay.seed(self.server_config())
            figures = await self.measure(overlay)
        return Performed(figures, overlay.network)


class Outcome(msgspec.Struct, Generic[Found_co], frozen=True, kw_only=True):
    """What is printed of a run."""

    command: str
    figures: Found_co
    datagrams: int
    virtual_s: float
    digest: str


def run(scenario: Scenario[Found_co]) -> Outcome[Found_co]:
    """Run once; the same scenario gives the same outcome."""
    with seeded_secrets(scenario.seed):
        return run_deterministic(_run, scenario.seed, scenario)


def command_of(scenario: Scenario[Found_co]) -> str:
    """The command that repeats a run."""
    words = ["python -m simulations", scenario.name]
    # Sizes first, then the seed, then the rest as it was declared.
    sizes = ("nodes", "servers", "seed")
    fields = sorted(
        msgspec.structs.fields(scenario),
        key=lambda f: sizes.index(f.name) if f.name in sizes else len(sizes),
    )
    for field in fields:
        value = getattr(scenario, field.name)
        if field.name in sizes or value != field.default:
            option = "--" + field.name.replace("_", "-")
            words.append(option if value is True else f"{option} {value}")
    return " ".join(words)


async def _run(scenario: Scenario[Found_co]) -> Outcome[Found_co]:
    performed = await scenario.perform()
    return Outcome(
        command=command_of(scenario),
        figures=performed.figures,
        datagrams=performed.network.statistics().sent,
        virtual_s=trio.current_time(),
        digest=performed.network.trace_digest(),
    )
