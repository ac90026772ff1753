"""Every pair of NAT types: which path two nodes get, how soon, and how often none.

Owns the lab for it, the connects, and what is possible in principle. Refuses to know
how a node finds its paths.
"""

import statistics
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
import trio

from opnode.cli.client import VerbFailed
from opnode.core.errors import ConfigError
from simulations.natlab.evidence import transfer
from simulations.natlab.lab import Lab
from simulations.natlab.nodes import LabNetwork, LabNode, open_network
from simulations.natlab.spec import OPEN, Host, LabSpec, Link, Nat, NatType

TYPES: Final = (OPEN, *(one.value for one in NatType))
SEEDS: Final = ("s1", "s2", "s3")
DIRECT: Final = "direct"
READY_S: Final = 120.0
CONNECT_S: Final = 20.0
SETTLE_S: Final = 4.0
"""How long a direct path may take to replace the first one, where there can be one."""

FILE_SIZE: Final = 100_000
"""One file for each pair tells whether a path is what it is called."""

_SHORT_S: Final = 0.3
_POLL_S: Final = 0.025
_REACHED_BY_ALL: Final = frozenset({OPEN, "full", "addr"})
_FORESEEABLE: Final = frozenset({"port", "seq"})


class MatrixConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure.

    Attributes:
        types: of the callers and of the callees.
        runs: connects of a cell.
        rtt_ms: round trip between any two stations of the public segment.
        has_relay: whether the first seed relays, and lets in by WebSocket.
    """

    types: tuple[str, ...] = TYPES
    runs: int = 10
    rtt_ms: float = 50.0
    has_relay: bool = True

    def check(self) -> None:
        """Look for types that there are not.

        Raises:
            ConfigError: names one.
        """
        for one in self.types:
            if one not in TYPES:
                raise ConfigError("types", repr(one), ", ".join(TYPES))


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One connect.

    Attributes:
        first: the kind of the path that carried the first byte; None: there was none.
        settled: the kind of the path a little later.
        lookup_ms: to find the callee's records.
        connect_ms: introduction and ICE, after the lookup.
        direct_ms: until the path was direct, after the lookup; None: it never was.
        first_byte_ms: from the start of the lookup to the first byte back.
        error: why it failed.
    """

    first: str | None = None
    settled: str | None = None
    lookup_ms: float | None = None
    connect_ms: float | None = None
    direct_ms: float | None = None
    first_byte_ms: float | None = None
    error: str = ""


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """All connects of a pair of types.

    Attributes:
        doubt: what the wire saw, if it was not what the node showed.
    """

    caller: str
    callee: str
    is_direct_possible: bool
    runs: tuple[Run, ...]
    doubt: str = ""

    @property
    def failures(self) -> int:
        """Connects that found no path at all."""
        return sum(run.first is None for run in self.runs)

    @property
    def kinds(self) -> dict[str, int]:
        """How many connects settled on which kind of path."""
        return dict(Counter(run.settled for run in self.runs if run.settled))

    @property
    def connect_ms(self) -> float | None:
        """Median until the first path, or until a direct one where there can be one."""
        taken = [
            run.direct_ms if self.is_direct_possible else run.connect_ms
            for run in self.runs
        ]
        values = [ms for ms in taken if ms is not None]
        return round(statistics.median(values), 1) if values else None

    @property
    def is_as_it_can_be(self) -> bool:
        """No failure, no doubt, and direct wherever that is possible in principle."""
        if self.failures or self.doubt:
            return False
        is_direct = self.kinds.get(DIRECT, 0) == len(self.runs)
        return is_direct or not self.is_direct_possible


class Matrix(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome."""

    config: MatrixConfig
    cells: tuple[Cell, ...]

    @property
    def direct_limit_ms(self) -> float:
        """Three round trips and what two processes may think about."""
        return 3 * self.config.rtt_ms + 60

    @property
    def direct_ms(self) -> float | None:
        """Median of all connects of cells with a direct path."""
        values = [
            run.direct_ms
            for cell in self.cells
            for run in cell.runs
            if run.direct_ms is not None
        ]
        return round(statistics.median(values), 1) if values else None

    @property
    def missed(self) -> tuple[str, ...]:
        """What is not as it should be, a line each."""
        lines = [
            f"{cell.caller} to {cell.callee}: {_why(cell)}"
            for cell in self.cells
            if not cell.is_as_it_can_be
        ]
        lines += [
            f"{cell.caller} to {cell.callee}: median {cell.connect_ms} ms, "
            f"at most {self.direct_limit_ms:.0f} wanted"
            for cell in self.cells
            if cell.is_direct_possible
            and (cell.connect_ms or 0.0) > self.direct_limit_ms
        ]
        return tuple(lines)


def is_direct_possible(one: str, other: str) -> bool:
    """Whether two hosts behind NATs of these types can have a direct path at all.

    Who lets in anybody, or any port of a host it sent to, is reached by all. Two whose
    filters look at the port need to know each other's in advance.
    """
    pair = {one, other}
    if "block" in pair:
        return False
    return bool(pair & _REACHED_BY_ALL) or pair <= _FORESEEABLE


def matrix_spec(config: MatrixConfig) -> LabSpec:
    """A caller ``a…`` and a callee ``b…`` behind a NAT of its own for each type."""
    # A way from one station to another has two ends, and a round trip two ways.
    link = Link(delay_ms=config.rtt_ms / 4)
    hosts = {seed: Host(link=link) for seed in SEEDS}
    nats = {}
    for kind in config.types:
        for side in "ab":
            if kind == OPEN:
                hosts[side + kind] = Host(link=link)
                continue
            nats[f"{side}{kind}nat"] = Nat(type=NatType(kind), link=link)
            hosts[side + kind] = Host(behind=f"{side}{kind}nat")
    return LabSpec(hosts=hosts, nats=nats)


async def measure(
    config: MatrixConfig, directory: Path, tell: Callable[[str], None]
) -> Matrix:
    """Connect every pair so many times; ``tell`` hears a line for each cell.

    Raises:
        ConfigError: an unknown type.
        LabFailed: no lab can be built here.
    """
    config.check()
    cells = []
    async with _running(config, directory, tell) as network:
        for caller in config.types:
            for callee in config.types:
                cell = await _fill(network, caller, callee, config.runs)
                cells.append(cell)
                tell(f"{caller:>5} {callee:<5} {_shown(cell)}")
    return Matrix(config=config, cells=tuple(cells))


async def _fill(network: LabNetwork, caller: str, callee: str, runs: int) -> Cell:
    ends = network.nodes["a" + caller], network.nodes["b" + callee]
    possible = is_direct_possible(caller, callee)
    settle_s = SETTLE_S if possible else _SHORT_S
    made = [await _connect(*ends, settle_s) for _ in range(runs)]
    doubt = ""
    if made[-1].first is not None:
        try:
            seen = await transfer(*ends, FILE_SIZE)
            doubt = "" if seen.is_honest else str(seen)
        except VerbFailed as error:
            doubt = f"no file came through: {error}"
    return Cell(
        caller=caller,
        callee=callee,
        is_direct_possible=possible,
        runs=tuple(made),
        doubt=doubt,
    )


@asynccontextmanager
async def _running(
    config: MatrixConfig, directory: Path, tell: Callable[[str], None]
) -> AsyncGenerator[LabNetwork, None]:
    with Lab(matrix_spec(config)) as lab:
        async with open_network(lab, directory) as network:
            for seed in SEEDS:
                relays = config.has_relay and seed == SEEDS[0]
                await network.start_seed(
                    seed, *(network.relaying(seed) if relays else ())
                )
            for host in lab.spec.hosts:
                if host not in SEEDS:
                    await network.start_up(host)
            late = await network.wait_ready(READY_S)
            if late:
                tell(f"not ready after {READY_S:.0f} s: {', '.join(late)}")
            yield network


async def _connect(caller: LabNode, callee: LabNode, settle_s: float) -> Run:
    """A fresh connect, as if the two NATs had never heard of each other."""
    if not (caller.is_ready and callee.is_ready):
        who = callee.host if caller.is_ready else caller.host
        return Run(error=f"{who} has not joined")
    for one, other in ((caller, callee), (callee, caller)):
        await one.hang_up(other)
    await trio.to_thread.run_sync(caller.lab.forget, caller.host, callee.host)
    began_at = trio.current_time()
    try:
        with trio.fail_after(CONNECT_S):
            made = await caller.connect(callee)
    except (VerbFailed, trio.TooSlowError) as error:
        return Run(error=str(error) or f"no connection after {CONNECT_S:.0f} s")
    parts = made.introduce_ms, made.ice_ms
    total = None if None in parts else sum(part for part in parts if part is not None)
    settled = made.path
    direct_ms = total if made.path == DIRECT else None
    if made.path != DIRECT:
        settled = await _settled(caller, callee, settle_s)
        if settled == DIRECT:
            direct_ms = (trio.current_time() - began_at) * 1e3 - (made.lookup_ms or 0.0)
    return Run(
        first=made.path,
        settled=settled,
        lookup_ms=made.lookup_ms,
        connect_ms=total,
        direct_ms=direct_ms,
        first_byte_ms=made.first_byte_ms,
    )


async def _settled(caller: LabNode, callee: LabNode, settle_s: float) -> str:
    """The kind of the path once it is direct, or after a while."""
    kind = ""
    with trio.move_on_after(settle_s):
        while True:
            row = await caller.connection_to(callee)
            kind = str(row["path"]) if row else "gone"
            if kind == DIRECT:
                break
            # No event tells that a path became better.
            await trio.sleep(_POLL_S)
    return kind


def table(matrix: Matrix) -> str:
    """A square for people: kinds and median connect time of each pair."""
    types = matrix.config.types
    cells = {(cell.caller, cell.callee): cell for cell in matrix.cells}
    width = 14
    lines = ["caller" + "".join(f"{kind:>{width}}" for kind in types)]
    for caller in types:
        row = [_square(cells[caller, callee]) for callee in types]
        lines.append(f"{caller:<6}" + "".join(f"{text:>{width}}" for text in row))
    lines += ["", f"direct connects: median {matrix.direct_ms} ms"]
    failures = sum(cell.failures for cell in matrix.cells)
    total = sum(len(cell.runs) for cell in matrix.cells)
    lines.append(f"failures: {failures} of {total}")
    return "\n".join([*lines, *_headed("not as it should be:", matrix.missed)])


def _headed(title: str, lines: Sequence[str]) -> list[str]:
    return [title, *(f"  {line}" for line in lines)] if lines else []


def _square(cell: Cell) -> str:
    if not cell.kinds:
        return "none !"
    kind = max(cell.kinds, key=lambda one: cell.kinds[one])
    ms = "" if cell.connect_ms is None else f" {cell.connect_ms:.0f}"
    return f"{kind}{ms}{'' if cell.is_as_it_can_be else ' !'}"


def _shown(cell: Cell) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(cell.kinds.items()))
    text = f"{kinds or 'no path'}, median {cell.connect_ms} ms"
    return text if cell.is_as_it_can_be else f"{text} ! {_why(cell)}"


def _why(cell: Cell) -> str:
    if cell.failures:
        errors = Counter(run.error for run in cell.runs if run.first is None)
        text, count = errors.most_common(1)[0]
        return f"{cell.failures} of {len(cell.runs)} failed ({count}: {text})"
    if cell.doubt:
        return f"not what it is called: {cell.doubt}"
    return f"a direct path exists, found {cell.kinds}"
