"""How a scenario of your own looks: when is the last of k holders of a record gone?

python -m simulations run simulations.example:LastHolder --holders 8
"""

from typing import Annotated, ClassVar

import numpy as np

from simulations.model.durations import HOUR_S
from simulations.model.sessions import Sessions
from simulations.run_context import Run
from simulations.scenario import Backend, Figures, Measured, Scenario, parameter


class LastHolderFigures(Figures, frozen=True, kw_only=True):
    """Hours until nobody holds a record any more, where nobody hands it on."""

    gone_h_median: float
    gone_h_p1: float


class LastHolder(Scenario[LastHolderFigures], frozen=True, kw_only=True):
    """Holders are met in the middle of their sessions."""

    name: ClassVar[str] = "simulations.example:LastHolder"
    question: ClassVar[str] = "When is the last holder of a record gone?"
    expected: ClassVar[str] = "Later the more there are: one in twenty stays for days."
    backends: ClassVar[tuple[Backend, ...]] = (Backend.VECTOR,)

    backend: Backend = Backend.VECTOR
    holders: Annotated[int, parameter("Nodes that hold it", low=1, high=1000)] = 20
    records: Annotated[int, parameter("Records drawn", low=1, high=100_000)] = 5000

    def perform(self, run: Run) -> Measured[LastHolderFigures]:
        """Draw what is left of every holder's session; the longest counts."""
        left_s = Sessions().many_residual_s(run.generator, self.records * self.holders)
        gone_h = left_s.reshape(self.records, self.holders).max(axis=1) / HOUR_S
        run.fold(gone_h.tobytes())
        p1, median = np.quantile(gone_h, [0.01, 0.5])
        figures = LastHolderFigures(met=True, gone_h_median=median, gone_h_p1=p1)
        return Measured(figures, left_s.size, float(gone_h.max()) * HOUR_S)
