"""A scenario that needs no engine."""

from typing import Annotated, ClassVar

from opnode.core.errors import ConfigError
from simulations.scenario import Backend, Figures, Measured, Scenario, parameter


class SampleFigures(Figures, frozen=True, kw_only=True):
    total: float


class SampleScenario(Scenario[SampleFigures], frozen=True, kw_only=True):
    name: ClassVar[str] = "sample"
    question: ClassVar[str] = "How much is the sum of what is drawn?"
    expected: ClassVar[str] = "Half of the count."
    backends: ClassVar[tuple[Backend, ...]] = (Backend.EVENT, Backend.VECTOR)

    backend: Backend = Backend.EVENT
    nodes: Annotated[int, parameter("How many are drawn", low=1, high=1000)] = 10
    share: Annotated[
        float, parameter("Those left out", unit="share", low=0, high=1)
    ] = 0.5
    loud: bool = False
    fails: Annotated[str, parameter("How it ends before its time")] = ""

    def check(self):
        if self.share == 1 and self.nodes == 1:
            raise ConfigError("--share", "1 of 1 node", "somebody to be left")

    def perform(self, run):
        for number in range(self.nodes):
            run.row("drawn", t_s=float(number), value=run.rng.random())
            run.progress(number + 1, self.nodes, "nodes")
            if self.fails == "interrupted":
                raise BaseExceptionGroup("a nursery", [KeyboardInterrupt()])
            if self.fails:
                raise ConfigError("--fails", self.fails, "nothing")
        total = sum(row["value"] for row in run.series["drawn"])
        run.fold(repr(total).encode())
        return Measured(SampleFigures(met=total > 0, total=total), self.nodes, 1.0)
