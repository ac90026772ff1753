"""One run of a scenario: its network, its end, and the command that repeats it.

Owns what all scenarios have in common. Refuses to know what they measure.
"""

import abc
from typing import ClassVar, Final, Generic, TypeVar

import msgspec
import trio

from opnode.testing.clock import run_deterministic
from opnode.testing.dht_nodes import DhtNetwork
from opnode.testing.virtual_network import Link

LATENCY_S = (0.01, 0.12)
"""One way, uniform: neighbours in a city up to the other side of the globe."""

_PAUSE_S: Final = 5.0
"""Between two who join: a node lets only so many into its table within an hour."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What one run found; ``met`` says whether the scenario's own bar was met."""

    met: bool


Found_co = TypeVar("Found_co", bound=Figures, covariant=True)


class Scenario(msgspec.Struct, Generic[Found_co], frozen=True, kw_only=True):
    """Parameters that all scenarios have; a field is an option of the command line."""

    name: ClassVar[str]
    maintained: ClassVar[bool] = False
    link: ClassVar[Link] = Link(latency_s=LATENCY_S)

    nodes: int = 50
    seed: int = 1
    # Addresses all over the Internet, each alone in its /24, in place of one 10/8.
    public: bool = False

    @abc.abstractmethod
    async def measure(self, network: DhtNetwork, nursery: trio.Nursery) -> Found_co:
        """Measure on a network that has grown; the nursery ends with the run."""


class Outcome(msgspec.Struct, Generic[Found_co], frozen=True, kw_only=True):
    """What is printed of a run."""

    command: str
    figures: Found_co
    datagrams: int
    virtual_s: float
    digest: str


def run(scenario: Scenario[Found_co]) -> Outcome[Found_co]:
    """Run once; the same scenario gives the same outcome."""
    return run_deterministic(_run, scenario.seed, scenario)


def command_of(scenario: Scenario[Found_co]) -> str:
    """The command that repeats a run."""
    words = ["python -m simulations", scenario.name]
    for field in msgspec.structs.fields(scenario):
        value = getattr(scenario, field.name)
        if field.name in ("nodes", "seed") or value != field.default:
            option = "--" + field.name.replace("_", "-")
            words.append(option if value is True else f"{option} {value}")
    return " ".join(words)


async def _run(scenario: Scenario[Found_co]) -> Outcome[Found_co]:
    async with trio.open_nursery() as nursery:
        network = DhtNetwork(
            nursery,
            scenario.seed,
            scenario.link,
            public=scenario.public,
        )
        try:
            await network.grow(scenario.nodes, pause_s=_PAUSE_S)
            if scenario.maintained:
                network.maintain()
            outcome = Outcome(
                command=command_of(scenario),
                figures=await scenario.measure(network, nursery),
                datagrams=network.network.statistics().sent,
                virtual_s=trio.current_time(),
                digest=network.network.trace_digest(),
            )
        finally:
            network.close()
        nursery.cancel_scope.cancel()
    return outcome
