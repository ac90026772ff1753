"""A scenario: one question, its parameters, and how it is asked of each backend.

Owns what every scenario has. Refuses to know what any of them measures, and how a run
is started, timed and kept (`simulations.runs`).
"""

import abc
import enum
from typing import ClassVar, Generic, NamedTuple, TypeVar

import msgspec

from simulations.run_context import Run


class Backend(enum.StrEnum):
    """Which engine answers."""

    REAL = "real"
    """The shipped node on a virtual network and clock: tens to a few thousand nodes."""

    EVENT = "event"
    """Discrete events: routing, churn, timeouts, storage; 10^4 to 10^6 nodes."""

    VECTOR = "vector"
    """Arrays, tables drawn when they are looked at: 10^5 to 10^7 nodes and beyond."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What one run found; ``met`` says whether the scenario's own bar was met."""

    met: bool


Found_co = TypeVar("Found_co", bound=Figures, covariant=True)


class Measured(NamedTuple, Generic[Found_co]):
    """What `Scenario.perform` leaves.

    Attributes:
        events: steps of the backend: datagrams, events, or array elements decided.
        virtual_s: how long the simulated world ran.
    """

    figures: Found_co
    events: int
    virtual_s: float


def parameter(
    about: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    drawn: str = "",
) -> msgspec.Meta:
    """What a field of a scenario means, as the second part of its ``Annotated``.

    Args:
        about: what it decides, a short sentence without its full stop.
        unit: of the value, as a figure's axis shows it; empty for counts.
        low: the least value; only for numbers.
        high: the greatest value; only for numbers.
        drawn: the distribution, where the value is the parameter of one.
    """
    extra = {"unit": unit, "drawn": drawn}
    return msgspec.Meta(description=about, ge=low, le=high, extra=extra)


class Scenario(msgspec.Struct, Generic[Found_co], frozen=True, kw_only=True):
    """What all scenarios have; a field is an option of the command line.

    A subclass whose first backend is not the real one repeats the field ``backend``
    with that as its default.
    """

    name: ClassVar[str]
    question: ClassVar[str]
    expected: ClassVar[str]
    """What to expect and why, in a sentence or two; theory/NAME.md says more."""
    backends: ClassVar[tuple[Backend, ...]] = (Backend.REAL,)

    seed: int = 1
    backend: Backend = Backend.REAL

    def check(self) -> None:
        """Refuse parameters that are each fine but impossible together.

        Raises:
            opnode.core.errors.ConfigError: names the one at fault.
        """

    @abc.abstractmethod
    def perform(self, run: Run) -> Measured[Found_co]:
        """Build, run and end. The same scenario leaves the same figures and digest."""
