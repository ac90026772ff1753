"""A directory of results: a line for each run, its time series beside it.

    DIR/results.jsonl              one JSON object a line, see `simulations.runs.Line`
    DIR/series/NAME-RUN.parquet    the rows of a series, a column each

Owns the files. Refuses to know what they mean. A line is written in one piece when its
run is over, so that whoever is interrupted leaves complete lines only; half a line at
the end, which a full disk can leave, is told and skipped.
"""

import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import polars

from opnode.core.errors import ConfigError
from simulations.run_context import Cell, Row
from simulations.runs import Line, Outcome
from simulations.scenario import Figures

MAX_LINE: Final = 16 * 1024 * 1024
"""Bytes of a line; figures are a few kilobytes."""

_NAME_BYTES: Final = 6


class Result(Line, frozen=True, kw_only=True):
    """A line as it is read again, whatever scenario wrote it."""

    figures: dict[str, object] | None


class Read(NamedTuple):
    """What a directory holds.

    Attributes:
        broken: what was skipped, and why, in the order of the file.
    """

    results: list[Result]
    broken: list[str]


class ResultsDirectory:
    """A directory that runs write to.

    Args:
        path: made when it is not there.

    Raises:
        ConfigError: it cannot be made or written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = path / "results.jsonl"
        try:
            (path / "series").mkdir(parents=True, exist_ok=True)
            with self._lines.open("ab"):
                pass
        except OSError as error:
            found = f"{path} ({error.strerror})"
            raise ConfigError("--out", found, "a directory to write to") from None

    def add(self, outcome: Outcome[Figures], series: Mapping[str, list[Row]]) -> None:
        """Keep a run.

        Raises:
            ConfigError: the disk refuses it.
        """
        self.keep(outcome, {name: parquet(rows) for name, rows in series.items()})

    def keep(self, line: Line, series: Mapping[str, bytes]) -> None:
        """Keep a run whose series are Parquet already.

        Raises:
            ConfigError: the disk refuses it.
        """
        key = run_key(line)
        try:
            files = {
                name: self._write_series(f"{name}-{key}", data)
                for name, data in series.items()
            }
            text = msgspec.json.encode(msgspec.structs.replace(line, series=files))
            with self._lines.open("ab") as file:
                file.write(self._separator() + text + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            found = f"{self.path} ({error.strerror})"
            raise ConfigError("--out", found, "room for another result") from None

    def _separator(self) -> bytes:
        """Ends half a line that somebody before us left."""
        with self._lines.open("rb") as file:
            if not file.seek(0, os.SEEK_END):
                return b""
            file.seek(-1, os.SEEK_END)
            return b"" if file.read(1) == b"\n" else b"\n"

    def _write_series(self, name: str, data: bytes) -> str:
        place = f"series/{name}.parquet"
        (self.path / place).write_bytes(data)
        return place


def parquet(rows: list[Row]) -> bytes:
    """The rows of a series as a Parquet file."""
    file = io.BytesIO()
    polars.DataFrame(rows, infer_schema_length=None).write_parquet(file)
    return file.getvalue()


def read_results(path: Path) -> Read:
    """Read a directory that runs have written to.

    Raises:
        ConfigError: there are no results in it.
    """
    lines = path / "results.jsonl"
    results: list[Result] = []
    broken: list[str] = []
    try:
        for number, line in enumerate(_lines(lines), start=1):
            try:
                results.append(msgspec.json.decode(line, type=Result))
            except msgspec.DecodeError as error:
                broken.append(f"{lines}, line {number}: {error}")
    except OSError as error:
        found = f"{path} ({error.strerror})"
        expected = "a directory that `run --out` or `sweep --out` wrote"
        raise ConfigError("DIR", found, expected) from None
    return Read(results, broken)


def run_key(line: Line) -> str:
    """A short name of a run: the same for the same scenario, parameters and commit."""
    return run_key_of(line.scenario, line.parameters, line.commit)


def run_key_of(scenario: str, parameters: Mapping[str, Cell], commit: str) -> str:
    """`run_key` of a run of which there is no line yet."""
    parts: dict[str, Cell] = dict(sorted(parameters.items()))
    text = msgspec.json.encode([scenario, parts, commit])
    return hashlib.sha256(text).hexdigest()[: 2 * _NAME_BYTES]


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE):
            yield line
