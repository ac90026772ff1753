"""What is right and wrong with a node: an examination that asks everything at once.

Owns the questions' order and gathering the facts. Refuses to judge them and to know who
reads the findings.
"""

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

import msgspec
import trio

from opnode.daemon.figures import NodeFigures, read_figures
from opnode.daemon.judgement import (
    DiskFacts,
    Finding,
    judge_clock,
    judge_entries,
    judge_joined,
    judge_reachable,
    judge_storage,
    judge_table,
    judge_traffic,
    judge_write,
)
from opnode.daemon.plain_values import plain_fields
from opnode.daemon.reach_judgement import (
    judge_attempts,
    judge_binding,
    judge_introducers,
    judge_ipv6,
    judge_mapping,
    judge_nat,
    judge_odds,
)
from opnode.drivers.store.health import damage_of, set_aside
from opnode.node.bootstrap import Verdict
from opnode.node.checkup import ClockFacts, WriteFacts

FILE_CHECK_S: Final = 20.0
"""The file of records has 100 MB at most; a disk that takes longer is ill itself."""

EVIDENCE_S: Final = 12.0
"""A round of being dialled takes ten; a node that just started has not begun."""

Result = TypeVar("Result")


class Examiner(Protocol):
    """What is needed of ``Checkup``."""

    async def probe_entries(self) -> list[Verdict]:
        """Ask the bootstrap entries."""

    async def write_through(self) -> WriteFacts:
        """Have a record held by others and read it back."""

    async def compare_clocks(self) -> ClockFacts:
        """Compare our clock with others'."""


class ExaminedNode(Protocol):
    """What is needed of ``OverlayNode``."""

    @property
    def checkup(self) -> Examiner:
        """Asks others about the node."""

    async def wait_evidence(self) -> None:
        """Wait until it was tried whether strangers reach the node."""

    def statistics(self) -> object:
        """The node at this instant: a dataclass."""


Report = Callable[[Finding], Awaitable[None]]


async def examine(node: ExaminedNode, records: Path | None, report: Report) -> None:
    """Look at everything at once and report in an order that people can read.

    Args:
        node: joined or not.
        records: the file of records; None for a node in memory.
        report: takes each finding as soon as those before it are there.
    """
    checkup = node.checkup
    async with trio.open_nursery() as nursery:
        entries = _Task(nursery, checkup.probe_entries)
        clocks = _Task(nursery, checkup.compare_clocks)
        write = _Task(nursery, checkup.write_through)
        figures = _figures(node)
        await report(judge_joined(figures))
        for finding in judge_entries(await entries.result(), figures):
            await report(finding)
        figures = await _figures_with_evidence(node, figures)
        for judge in _REACH:
            await report(judge(figures))
        for finding in judge_attempts(figures):
            await report(finding)
        await report(judge_clock(await clocks.result()))
        await report(judge_table(figures))
        await report(judge_storage(await _disk_facts(records), figures))
        await report(judge_write(await write.result()))
        await report(judge_traffic(figures))


_REACH: Final = (
    judge_reachable,
    judge_nat,
    judge_binding,
    judge_mapping,
    judge_ipv6,
    judge_introducers,
    judge_odds,
)


async def _figures_with_evidence(
    node: ExaminedNode, figures: NodeFigures
) -> NodeFigures:
    """The figures once it was tried whether the node is reached, if that is near."""
    if figures.contacts:
        with trio.move_on_after(EVIDENCE_S):
            await node.wait_evidence()
    return _figures(node)


class _Task(Generic[Result]):
    """A question under way, whose answer is waited for later."""

    def __init__(
        self, nursery: trio.Nursery, ask: Callable[[], Awaitable[Result]]
    ) -> None:
        self._ask = ask
        self._done = trio.Event()
        self._results: list[Result] = []
        nursery.start_soon(self._run)

    async def _run(self) -> None:
        self._results.append(await self._ask())
        self._done.set()

    async def result(self) -> Result:
        await self._done.wait()
        return self._results[0]


def _figures(node: ExaminedNode) -> NodeFigures:
    plain = plain_fields(node.statistics())
    # Through JSON, as a command reads them: what is shown and judged is the same.
    return read_figures(msgspec.json.decode(msgspec.json.encode(plain)))


async def _disk_facts(records: Path | None) -> DiskFacts | None:
    if records is None:
        return None
    damage: str | None = "it could not be read in time"
    with trio.move_on_after(FILE_CHECK_S):
        damage = await trio.to_thread.run_sync(
            damage_of, records, abandon_on_cancel=True
        )
    try:
        free: int | None = shutil.disk_usage(records.parent).free
    except OSError:
        free = None
    return DiskFacts(damage, len(set_aside(records)), free)
