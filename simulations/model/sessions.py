"""How long nodes stay: Weibull sessions, as they were measured in the field.

Half of the newcomers were gone after about two hours and 80 % after eight (IPFS, 2022):
shape 0.608 and scale 3.66 hours go through both points. The longer a node has been up,
the likelier it stays another hour.

Owns the law. Refuses to know who leaves.
"""

import math
import random
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulations.model.durations import HOUR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """A Weibull law of session lengths.

    Attributes:
        shape: below 1, so that old nodes are the ones that stay.
        scale_s: seconds; 63 % of the sessions are shorter.
    """

    shape: float = 0.608
    scale_s: float = 3.66 * HOUR_S

    @property
    def mean_s(self) -> float:
        """The mean length, in seconds."""
        return self.scale_s * math.gamma(1 + 1 / self.shape)

    def survival(self, t_s: float) -> float:
        """The share of newcomers that is still there after so many seconds."""
        return math.exp(-((t_s / self.scale_s) ** self.shape))

    def whole_s(self, rng: random.Random) -> float:
        """The length of a new session."""
        return rng.weibullvariate(self.scale_s, self.shape)

    def residual_s(self, rng: random.Random) -> float:
        """What is left of a session met at a random moment.

        Long sessions are met more often (inspection paradox): the length has the
        density t f(t) / mean, which is the power of a gamma variate, and we are
        somewhere in it.
        """
        met: float = rng.gammavariate(1 + 1 / self.shape, 1) ** (1 / self.shape)
        return rng.random() * self.scale_s * met

    def many_whole_s(
        self, generator: np.random.Generator, count: int
    ) -> npt.NDArray[np.float64]:
        """Lengths of so many new sessions."""
        return self.scale_s * generator.weibull(self.shape, count)

    def many_residual_s(
        self, generator: np.random.Generator, count: int
    ) -> npt.NDArray[np.float64]:
        """What is left of so many sessions, each met at a random moment."""
        return self.many_met_s(generator, count)[1]

    def many_met_s(
        self, generator: np.random.Generator, count: int
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Ages of so many sessions met at a random moment, and what is left of them."""
        met = generator.gamma(1 + 1 / self.shape, 1.0, count) ** (1 / self.shape)
        whole_s = self.scale_s * met
        left_s = generator.random(count) * whole_s
        return whole_s - left_s, left_s

    def residual_survival(self, t_s: float) -> float:
        """The share of those met at a random moment that stays for so long from then.

        The integral of ``survival`` from there on, over the mean: by Simpson's rule in
        the variable x = (t / scale)^shape, in which its tail is exponential.
        """
        steps, reach = 2000, 60.0
        begin = (t_s / self.scale_s) ** self.shape
        width = reach / steps
        power = 1 / self.shape - 1
        total = 0.0
        for step in range(steps + 1):
            x = begin + step * width
            weight = 1 if step in {0, steps} else 4 if step % 2 else 2
            # dt = scale / shape * x^(1/shape - 1) dx
            total += weight * math.exp(-x) * (x**power if x else 0.0)
        integral_s = total * width / 3 * self.scale_s / self.shape
        return min(1.0, integral_s / self.mean_s)
