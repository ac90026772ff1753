"""What a worker is asked, and what it answers.

Owns the two messages. Refuses to know how they travel.
"""

import importlib
from typing import Annotated, Final, Self

import msgspec

from simulations.parameters import AnyScenario, build, values_of
from simulations.run_context import Cell
from simulations.sweep.code import Code


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `place` is the scenario's class as ``module:name``."""

    place: str
    parameters: dict[str, Cell]
    code: Code

    @classmethod
    def of(cls, scenario: AnyScenario, code: Code) -> Self:
        """Ask for a run of a scenario by this code."""
        kind = type(scenario)
        return cls(
            place=f"{kind.__module__}:{kind.__qualname__}",
            parameters=values_of(scenario),
            code=code,
        )

    def scenario(self) -> AnyScenario:
        """The scenario that is asked for.

        Raises:
            ConfigError: Its parameters are not what its class takes here.
        """
        module, name = self.place.split(":")
        kind: type[AnyScenario] = getattr(importlib.import_module(module), name)
        return build(kind, self.parameters)


MAX_ANSWER: Final = 256 * 1024 * 1024
"""Bytes: the longest series that `simulations.run_context` allows, twice."""

_SeriesName = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_.-]{1,64}$")]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A run that has ended, or why it did not begin.

    Attributes:
        line: what belongs in `results.jsonl`, as JSON.
        series: its time series as Parquet.
        differs: what of the code is not as the job wants it; then there is no run.
    """

    line: bytes = b""
    series: dict[_SeriesName, bytes] = {}
    differs: tuple[str, ...] = ()
