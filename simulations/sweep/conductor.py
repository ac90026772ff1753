"""Hands out the runs of a sweep, keeps what comes back, and bounds the failures.

Owns the order, the retries and the end. Refuses to know where workers are, and how a
result is shown.
"""

import contextlib
import queue
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Final, NamedTuple

import msgspec
from distributed import Client, Future, KilledWorker

from opnode.testing import provenance
from simulations.parameters import AnyScenario, command_of, values_of
from simulations.results import Result, ResultsDirectory
from simulations.runs import LIBRARIES, Status
from simulations.sweep.cluster import Crew
from simulations.sweep.code import Code
from simulations.sweep.errors import ClusterLost, CodeDiffers
from simulations.sweep.job import Answer, Job
from simulations.sweep.task import perform

_LIVE: Final = "running"


class ConductorConfig(NamedTuple):
    """Bounds of handing out."""

    retries: int = 2
    """Of a run whose process or worker was lost. A run that ends with an error of its
    own would do so again."""
    window: int = 1000
    """Runs handed out at once: so many that a scheduler sees it needs more workers, so
    few that their answers fit in memory."""
    look_s: float = 1.0
    """Between two looks at a cluster that is silent."""
    looks_alone: int = 120
    """So many looks in a row without any worker, and the sweep ends."""


class Conductor:
    """One sweep on one cluster.

    Args:
        crew: who does it.
        results: where every run is kept as soon as it is over.
        code: the code that all have to run.
        config: bounds.
    """

    def __init__(
        self,
        crew: Crew,
        results: ResultsDirectory,
        code: Code,
        config: ConductorConfig | None = None,
    ) -> None:
        self._crew = crew
        self._results = results
        self._code = code
        self._config = config or ConductorConfig()
        self._ended: queue.SimpleQueue[Future[bytes]] = queue.SimpleQueue()
        self._out: dict[Future[bytes], AnyScenario] = {}

    def conduct(
        self, scenarios: Sequence[AnyScenario], over: Callable[[Result], None]
    ) -> None:
        """Run all; `over` is called with each result after it was kept.

        Raises:
            ClusterLost: The scheduler or all workers are gone; what was kept stays.
            CodeDiffers: A worker has other code, or ours changed on the disk.
            ConfigError: The disk refuses a result.
        """
        waiting = iter(scenarios)
        name = f"{scenarios[0].name}-{uuid.uuid4().hex[:8]}" if scenarios else ""
        numbers = iter(range(len(scenarios)))
        try:
            while self._fill(waiting, name, numbers):
                future = self._next()
                over(self._keep(self._out.pop(future), future))
        finally:
            self._abandon()

    def _fill(
        self, waiting: Iterator[AnyScenario], name: str, numbers: Iterator[int]
    ) -> bool:
        """Hand out as many as may be; whether any are out."""
        while len(self._out) < self._config.window:
            scenario = next(waiting, None)
            if scenario is None:
                break
            job = msgspec.json.encode(Job.of(scenario, self._code))
            future = self._crew.client.submit(
                perform,
                job,
                key=f"{name}-{next(numbers)}",
                retries=self._config.retries,
                pure=False,
            )
            self._out[future] = scenario
            future.add_done_callback(self._ended.put)
        return bool(self._out)

    def _next(self) -> Future[bytes]:
        """Wait for the next one that is over."""
        alone = 0
        while True:
            try:
                return self._ended.get(timeout=self._config.look_s)
            except queue.Empty:
                alone = 0 if _workers(self._crew) else alone + 1
            if alone >= self._config.looks_alone:
                seconds = alone * self._config.look_s
                raise ClusterLost(
                    f"{self._crew.name} has had no worker for {seconds:g} s"
                )

    def _keep(self, scenario: AnyScenario, future: Future[bytes]) -> Result:
        answer = self._answer(future)
        if isinstance(answer, str):
            result, series = _failed(scenario, answer), {}
        else:
            result, series = (
                msgspec.json.decode(answer.line, type=Result),
                answer.series,
            )
        self._results.keep(result, series)
        return result

    def _answer(self, future: Future[bytes]) -> Answer | str:
        """What came back, or why nothing did."""
        try:
            data = future.result()
        except CancelledError:
            raise ClusterLost(f"{self._crew.name} is gone") from None
        except KilledWorker as error:
            return f"its worker was lost {error.allowed_failures + 1} times"
        # Whatever a worker raises comes out here, of any type.
        except Exception as error:  # noqa: BLE001 - becomes the line of this run
            if self._crew.client.status != _LIVE:
                raise ClusterLost(f"{self._crew.name} is gone: {error}") from None
            return f"{error}" or type(error).__name__
        finally:
            future.release()
        answer = msgspec.msgpack.decode(data, type=Answer)
        if answer.differs:
            found = ", ".join(answer.differs)
            raise CodeDiffers(f"a worker of {self._crew.name} has {found}")
        return answer

    def _abandon(self) -> None:
        """Let go of all that are out; workers end them within moments."""
        # Of a cluster that is gone nothing has to be taken back.
        with contextlib.suppress(OSError, TimeoutError, CancelledError):
            if self._out and self._crew.client.status == _LIVE:
                self._crew.client.cancel(list(self._out), force=True)
        self._out.clear()


def _workers(crew: Crew) -> int:
    """How many there are.

    Raises:
        ClusterLost: The scheduler does not answer.
    """
    client: Client = crew.client
    try:
        if client.status == _LIVE:
            return len(client.scheduler_info()["workers"])
    except (OSError, TimeoutError) as error:
        raise ClusterLost(f"{crew.name} is gone: {error}") from None
    raise ClusterLost(f"{crew.name} is gone")


def _failed(scenario: AnyScenario, error: str) -> Result:
    """The line of a run that came to nothing."""
    return Result(
        scenario=scenario.name,
        backend=scenario.backend.value,
        parameters=values_of(scenario),
        seed=scenario.seed,
        commit=provenance.commit(),
        versions=provenance.versions(LIBRARIES),
        command=command_of(scenario),
        status=Status.FAILED,
        error=error,
        figures=None,
    )
