"""One run of a scenario, and the line that is kept of it.

Owns timing, provenance and how a run ended. Refuses to know what it measured and where
the line goes.
"""

import enum
import gc
import logging
import resource
import sys
import time
from typing import Final, Generic, TypeVar

import msgspec
import numpy as np

from opnode.core.errors import OpnodeError
from opnode.testing import provenance
from simulations.parameters import command_of, values_of
from simulations.run_context import Cell, Run
from simulations.scenario import Figures, Found_co, Measured, Scenario

LIBRARIES: Final = (*provenance.LIBRARIES, "numpy")
_KB_PER_MB: Final = 1024
_Plain = TypeVar("_Plain", bound=Figures)


class Status(enum.StrEnum):
    """How a run ended."""

    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a run beside its figures.

    Attributes:
        parameters: all of them, also those that had their default.
        events: datagrams, events or array elements, as the backend counts.
        digest: SHA-256 over what the backend did; the same for the same parameters and
            commit.
        error: why it failed; empty when it did not.
        series: files with its time series by name, relative to the line's own.
    """

    scenario: str
    backend: str
    parameters: dict[str, Cell]
    seed: int
    commit: str
    versions: dict[str, str]
    command: str
    status: Status = Status.COMPLETE
    error: str = ""
    events: int = 0
    virtual_s: float = 0.0
    digest: str = ""
    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_rss_MB: float = 0.0  # noqa: N815 - the unit ends the name
    series: dict[str, str] = {}


class Outcome(Line, Generic[Found_co], frozen=True, kw_only=True):
    """A run with its figures; none when it was interrupted or failed."""

    figures: Found_co | None


def prepare_process() -> None:
    """Set up a process for runs.

    Almost everything made lives to the end, so looking for garbage costs a sixth of the
    time and finds little. Nodes under attack say so; here it is known.
    """
    gc.set_threshold(200_000, 20, 100)
    logging.getLogger("opnode").setLevel(logging.ERROR)


def run(scenario: Scenario[Found_co], context: Run | None = None) -> Outcome[Found_co]:
    """Run once; errors and interruptions are the caller's."""
    outcome = attempt(scenario, context, catch=())
    assert outcome.figures is not None
    return outcome


def attempt(
    scenario: Scenario[Found_co],
    context: Run | None = None,
    *,
    catch: tuple[type[BaseException], ...] = (KeyboardInterrupt, OpnodeError),
) -> Outcome[Found_co]:
    """Run once; what goes wrong becomes part of the outcome.

    Args:
        scenario: what to run.
        context: its progress and series; one without an audience by default.
        catch: what is turned into a status; everything else is raised.
    """
    context = context or Run(scenario.seed)
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    measured: Measured[Found_co] | None = None
    status, error = Status.COMPLETE, ""
    try:
        measured = scenario.perform(context)
    except BaseException as raised:
        reason = _reason(raised, catch)
        if reason is None:
            raise
        interrupted = isinstance(reason, KeyboardInterrupt)
        status = Status.INTERRUPTED if interrupted else Status.FAILED
        error = str(reason) or type(reason).__name__
    return Outcome(
        scenario=scenario.name,
        backend=scenario.backend.value,
        parameters=values_of(scenario),
        seed=scenario.seed,
        commit=provenance.commit(),
        versions=provenance.versions(LIBRARIES),
        command=command_of(scenario),
        status=status,
        error=error,
        figures=_plain(measured.figures) if measured else None,
        events=measured.events if measured else 0,
        virtual_s=measured.virtual_s if measured else 0.0,
        digest=context.digest() if measured else "",
        cpu_s=round(time.process_time() - cpu_s, 3),
        wall_s=round(time.perf_counter() - wall_s, 3),
        peak_rss_MB=round(_peak_rss_kB() / _KB_PER_MB, 1),
    )


def _plain(figures: _Plain) -> _Plain:
    """The figures with numpy's numbers turned into Python's, which JSON knows."""
    values = msgspec.to_builtins(figures, enc_hook=_plain_number)
    return msgspec.convert(values, type(figures))


def _plain_number(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a figure: found {type(value).__name__}, expected a number")


def _reason(
    raised: BaseException, catch: tuple[type[BaseException], ...]
) -> BaseException | None:
    """The first error of a tree of groups that is to be caught; None if there is none.

    Tasks wrap what they raise in a group for each nursery on its way.
    """
    if isinstance(raised, catch):
        return raised
    if isinstance(raised, BaseExceptionGroup):
        parts = (_reason(part, catch) for part in raised.exceptions)
        return next((part for part in parts if part is not None), None)
    return None


def _peak_rss_kB() -> float:  # noqa: N802 - the unit ends the name
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes on macOS, kilobytes elsewhere.
    return peak / _KB_PER_MB if sys.platform == "darwin" else peak
