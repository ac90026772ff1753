"""How fast the three backends of the simulations are, each in a process of its own.

Real: nodes that join one after the other, and the datagrams that this takes. Event: a
day of churn, tables and their checks. Vector: lookups among ten million nodes. Seconds
are of CPU but for the vector backend, which is what a user waits for, start included.
"""

import sys
from dataclasses import dataclass
from typing import Final

import msgspec
import trio

from benchmarks.figures import BenchmarkError, Report, measure

_LIMIT_S: Final = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured.

    Args:
        runs: of each backend.
        joining: nodes on the real backend.
        churning: nodes on the event backend.
        hours: virtual time on the event backend.
        looked_up_among: nodes on the vector backend.
    """

    runs: int = 3
    joining: int = 1500
    churning: int = 100_000
    hours: float = 24.0
    looked_up_among: int = 10_000_000


class RunLine(msgspec.Struct, frozen=True, kw_only=True):
    """What a run says of itself."""

    status: str
    events: int
    cpu_s: float
    peak_rss_MB: float  # noqa: N815 - the unit ends the name


async def run(plan: Plan) -> Report:
    """Run each backend, in turns.

    Raises:
        BenchmarkError: a run failed.
    """
    joins, churns, hops, waits = [], [], [], []
    for _ in range(plan.runs):
        words = f"hops --backend real --nodes {plan.joining} --lookups 1"
        joins.append(await _simulate(words))
        words = f"churn --backend event --nodes {plan.churning} --hours {plan.hours}"
        churns.append(await _simulate(words))
        began_at = trio.current_time()
        hops.append(await _simulate(f"hops --nodes {plan.looked_up_among}"))
        waits.append(trio.current_time() - began_at)
    return Report(
        figure="simulators",
        measures={
            "real_join_s": measure([one.cpu_s for one in joins]),
            "real_datagrams_per_s": measure([one.events / one.cpu_s for one in joins]),
            "real_rss_MB": measure([one.peak_rss_MB for one in joins]),
            "event_churn_s": measure([one.cpu_s for one in churns]),
            "event_events_per_s": measure([one.events / one.cpu_s for one in churns]),
            "event_rss_MB": measure([one.peak_rss_MB for one in churns]),
            "vector_hops_s": measure(waits),
            "vector_rss_MB": measure([one.peak_rss_MB for one in hops]),
        },
        facts={
            "joining": plan.joining,
            "churning": plan.churning,
            "hours": plan.hours,
            "looked_up_among": plan.looked_up_among,
        },
    )


async def _simulate(words: str) -> RunLine:
    command = [sys.executable, "-m", "simulations", "run", *words.split()]
    with trio.fail_after(_LIMIT_S):
        done = await trio.run_process(
            command, capture_stdout=True, capture_stderr=True, check=False
        )
    try:
        line = msgspec.json.decode(done.stdout, type=RunLine)
    except msgspec.DecodeError:
        said = done.stderr.decode(errors="replace").strip()
        raise BenchmarkError(f"{words}: {said or done.returncode}") from None
    if line.status != "complete":
        raise BenchmarkError(f"{words}: the run ended as {line.status}")
    return line
