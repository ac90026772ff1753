"""How many hops and rounds does a lookup take, in networks of what size?

Owns the parameters. Refuses to know the engines: each has a file of its own.
"""

import enum
import importlib
from collections.abc import Callable
from typing import Annotated, ClassVar, Final

from opnode.core.errors import ConfigError
from simulations.model.round_trips import (
    LogNormalRoundTrips,
    RoundTripLaw,
    UniformRoundTrips,
)
from simulations.run_context import Run
from simulations.scenario import Backend, Measured, Scenario, parameter
from simulations.scenarios.hops.question import HopsFigures, Question

_SHIPPED_K: Final = 20
_SHIPPED_ALPHA: Final = 3
_MOST_NODES: Final = {Backend.EVENT: 1_000_000, Backend.REAL: 20_000}


class Law(enum.StrEnum):
    """How long a question and its answer take."""

    UNIFORM = "uniform"
    """Each way 10 to 120 ms, as on the network of ``real``."""

    LOG_NORMAL = "log-normal"
    """Median 100 ms, sigma 0.5, as measured over the Internet."""

    def law(self) -> RoundTripLaw:
        """The law itself."""
        return UniformRoundTrips() if self is Law.UNIFORM else LogNormalRoundTrips()


class HopsScenario(Scenario[HopsFigures], frozen=True, kw_only=True):
    """Greedy paths and iterative lookups where everybody answers."""

    name: ClassVar[str] = "hops"
    question: ClassVar[str] = (
        "How many hops, rounds and seconds does a lookup take among how many nodes?"
    )
    expected: ClassVar[str] = (
        "A hop gains 1 + sum(1-(1-2^-j)^k) bits: 5.7 for k = 20, so 10^7 nodes are 4.3 "
        "hops apart; three questions at a time know the nearest node in 3 rounds."
    )
    backends: ClassVar[tuple[Backend, ...]] = (
        Backend.VECTOR,
        Backend.EVENT,
        Backend.REAL,
    )

    backend: Backend = Backend.VECTOR
    nodes: Annotated[
        int, parameter("Nodes", low=2, high=200_000_000, drawn="uniform ids of 64 bits")
    ] = 100_000
    k: Annotated[
        int, parameter("Contacts in a bucket, and of a reply", low=1, high=256)
    ] = 20
    alpha: Annotated[int, parameter("Nodes asked at once", low=1, high=256)] = 3
    lookups: Annotated[
        int,
        parameter(
            "Paths, and lookups",
            low=1,
            high=10_000_000,
            drawn="askers and targets uniform",
        ),
    ] = 20_000
    round_trips: Annotated[
        Law,
        parameter(
            "How long an answer takes",
            unit="s",
            drawn="uniform: twice 10 to 120 ms; log-normal: median 100 ms, sigma 0.5",
        ),
    ] = Law.UNIFORM

    settled: Annotated[
        bool,
        parameter(
            "Fill tables from the truth, in place of joining; other backends always do"
        ),
    ] = False

    def check(self) -> None:
        """Nobody can ask more nodes at once than it remembers; what ships is fixed."""
        self._check_shipped()
        if self.alpha > self.k:
            raise ConfigError("--alpha", str(self.alpha), f"at most --k, here {self.k}")

    def perform(self, run: Run) -> Measured[HopsFigures]:
        """See `Scenario.perform`."""
        asked = Question(
            nodes=self.nodes,
            k=self.k,
            alpha=self.alpha,
            lookups=self.lookups,
            law=self.round_trips.law(),
            settled=self.settled,
        )
        return _engine(self.backend)(asked, run)

    def _check_shipped(self) -> None:
        """Refuse what the shipped lookup does not leave open."""
        if self.backend is Backend.VECTOR:
            return
        if self.k != _SHIPPED_K:
            expected = f"{_SHIPPED_K} on {self.backend}, as in what ships"
            raise ConfigError("--k", str(self.k), expected)
        most = _MOST_NODES[self.backend]
        if self.nodes > most:
            expected = f"at most {most:,} on {self.backend}"
            raise ConfigError("--nodes", f"{self.nodes:,}", expected)
        if self.backend is Backend.EVENT and self.alpha != _SHIPPED_ALPHA:
            expected = f"{_SHIPPED_ALPHA} on {self.backend}, as in what ships"
            raise ConfigError("--alpha", str(self.alpha), expected)
        if self.backend is Backend.REAL and self.round_trips is not Law.UNIFORM:
            raise ConfigError("--round-trips", self.round_trips, "uniform on real")


def _engine(backend: Backend) -> Callable[[Question, Run], Measured[HopsFigures]]:
    """What answers; imported here, as what ``real`` needs takes half a second."""
    module = importlib.import_module(f"simulations.scenarios.hops.on_{backend}")
    measure: Callable[[Question, Run], Measured[HopsFigures]] = module.measure
    return measure
