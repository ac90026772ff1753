"""How long a question and its answer take.

Owns the laws. Refuses to know who asks whom, and what is lost.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from simulations.model.durations import LATENCY_S

Seconds = npt.NDArray[np.float64]


class RoundTripLaw(Protocol):
    """How long a question and its answer take."""

    def draw(self, generator: np.random.Generator, count: int) -> Seconds:
        """So many round trips in seconds."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LogNormalRoundTrips:
    """Log-normal round trips, as measured over the Internet.

    Attributes:
        median_s: half of them are shorter.
        sigma: of the logarithm; 0.5 has 95 % below 2.3 medians.
    """

    median_s: float = 0.1
    sigma: float = 0.5

    def draw(self, generator: np.random.Generator, count: int) -> Seconds:
        """See `RoundTripLaw.draw`."""
        return generator.lognormal(np.log(self.median_s), self.sigma, count)


@dataclass(frozen=True, slots=True, kw_only=True)
class UniformRoundTrips:
    """Each way takes any time between two bounds, as on the network of `real`.

    Attributes:
        low_s, high_s: of one way.
    """

    low_s: float = LATENCY_S[0]
    high_s: float = LATENCY_S[1]

    def draw(self, generator: np.random.Generator, count: int) -> Seconds:
        """See `RoundTripLaw.draw`."""
        ways = generator.uniform(self.low_s, self.high_s, (2, count))
        both: Seconds = ways.sum(axis=0)
        return both
