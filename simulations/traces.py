"""A trace: what it takes to see a run again, step by step.

Runs repeat themselves, so a trace holds no steps, only the scenario's values, the
commit, and what the run came to. Owns the file and the comparison. Refuses to know how
steps are shown.
"""

from pathlib import Path
from typing import Final

import msgspec

from opnode.core.errors import ConfigError
from simulations.parameters import AnyScenario, build
from simulations.registry import load
from simulations.run_context import Cell
from simulations.runs import Line, Outcome, Status
from simulations.scenario import Figures

MAX_TRACE: Final = 1024 * 1024
"""Bytes; a trace has about two kilobytes."""


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was and came to.

    Attributes:
        error: why it failed; empty when it did not.
    """

    scenario: str
    parameters: dict[str, Cell]
    commit: str
    versions: dict[str, str]
    status: Status
    digest: str
    error: str

    def build(self) -> AnyScenario:
        """The scenario to run again.

        Raises:
            ConfigError: it is unknown here, or does not take these values any more.
        """
        return build(load(self.scenario), self.parameters)

    def difference(self, again: Outcome[Figures]) -> str:
        """What a second run came to instead; empty when it repeated the first."""
        ended = (again.status, again.digest, again.error)
        if ended == (self.status, self.digest, self.error):
            return ""
        then = self.error or f"{self.status}, digest {self.digest[:16]}"
        now = again.error or f"{again.status}, digest {again.digest[:16]}"
        text = f"then: {then}; now: {now}"
        if again.commit != self.commit:
            text += f"; it ran on commit {self.commit}, this is {again.commit}"
        return text


def write_trace(path: Path, line: Line) -> None:
    """Keep what it takes to run again.

    Raises:
        ConfigError: it cannot be written there.
    """
    values = {name: getattr(line, name) for name in Trace.__struct_fields__}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode(Trace(**values)) + b"\n")
    except OSError as error:
        found = f"{path} ({error.strerror})"
        raise ConfigError("--trace", found, "a file to write to") from None


def read_trace(path: Path) -> Trace:
    """Read what `write_trace` wrote.

    Raises:
        ConfigError: it is not there, or not a trace.
    """
    expected = "a file that `run --trace` wrote"
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(MAX_TRACE), type=Trace)
    except OSError as error:
        found = f"{path} ({error.strerror})"
    except msgspec.DecodeError as error:
        found = f"{path} ({error})"
    raise ConfigError("TRACE", found, expected)
