"""A scenario whose run is lost at the first try, as crashes and lost machines do it."""

import os
import signal
import threading
from pathlib import Path
from typing import Annotated, ClassVar

from simulations.scenario import Backend, Figures, Measured, Scenario, parameter


class LostOnceFigures(Figures, frozen=True, kw_only=True):
    drawn: float


class LostOnceScenario(Scenario[LostOnceFigures], frozen=True, kw_only=True):
    name: ClassVar[str] = "lost-once"
    question: ClassVar[str] = "Does a sweep survive what happens to its runs?"
    expected: ClassVar[str] = "Yes."
    backends: ClassVar[tuple[Backend, ...]] = (Backend.EVENT,)

    backend: Backend = Backend.EVENT
    folder: Annotated[str, parameter("Where runs leave their traces")] = ""
    lost: Annotated[int, parameter("The seed of the run that is lost", low=0)] = 0
    times: Annotated[int, parameter("How often it is lost", low=0)] = 0
    waits: Annotated[bool, parameter("It tells its worker and itself, and waits")] = (
        False
    )

    def perform(self, run):
        if self.seed == self.lost:
            self.be_lost()
        drawn = run.rng.random()
        run.row("drawn", t_s=0.0, value=drawn)
        run.fold(repr(drawn).encode())
        return Measured(LostOnceFigures(met=True, drawn=drawn), 1, 0.0)

    def be_lost(self):
        for number in range(self.times):
            try:
                (Path(self.folder) / f"try-{number}").touch(exist_ok=False)
            except FileExistsError:
                continue
            if self.waits:
                with (Path(self.folder) / "worker").open("w") as pipe:
                    pipe.write(f"{os.getppid()} {os.getpid()}")
                threading.Event().wait()
            os.kill(os.getpid(), signal.SIGKILL)
