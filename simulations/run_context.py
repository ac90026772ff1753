"""One run, as its scenario sees it: randomness, progress, time series, the digest.

Owns what a run leaves beside its figures. Refuses to know where that is kept and shown.
"""

import functools
import hashlib
import random
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from opnode.core.errors import ConfigError

Cell = bool | int | float | str
Row = Mapping[str, Cell]
Progress = Callable[[float, float, str], None]
"""Called with how much is done, of how much, in which unit."""

Watch = Callable[[float, str, str], None]
"""Called at each step with virtual seconds, who does it, and what it is."""

MAX_ROWS: Final = 1_000_000
"""Of one series: about 100 MB; more is a scenario that records every event."""


class Run:
    """What `Scenario.perform` works with.

    Args:
        seed: decides everything that is drawn.
        progress: shows how far the run is; may be called often.
        watch: is told of every step of the backend; costs most of its speed.
    """

    def __init__(
        self, seed: int, progress: Progress | None = None, watch: Watch | None = None
    ) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.watch = watch
        self.series: dict[str, list[Row]] = {}
        self._show = progress
        self._trace = hashlib.sha256()

    @functools.cached_property
    def generator(self) -> np.random.Generator:
        """The run's numpy generator (PCG64), independent of ``rng``."""
        return np.random.Generator(np.random.PCG64(self.seed))

    def progress(self, done: float, total: float, unit: str) -> None:
        """Say how far the run is."""
        if self._show is not None:
            self._show(done, total, unit)

    def row(self, series: str, **cells: Cell) -> None:
        """Add a row to a time series; all rows of one have the same columns.

        Raises:
            ConfigError: the series has `MAX_ROWS` rows.
        """
        rows = self.series.setdefault(series, [])
        if len(rows) >= MAX_ROWS:
            raise ConfigError(series, f"row {len(rows) + 1}", f"at most {MAX_ROWS:,}")
        rows.append(cells)

    def fold(self, data: bytes | bytearray | memoryview) -> None:
        """Let the digest depend on this too."""
        self._trace.update(data)

    def digest(self) -> str:
        """SHA-256 over everything that was folded."""
        return self._trace.hexdigest()
