"""How a connection shares a link of 100 Mbit/s with 50 ms of round trip.

Two network namespaces, an emulated link between them (`benchmarks.link_emulator`), and
each end of each flow in a process of its own: ours on the hub and the table of a node,
beside the kernel's own TCP. Needs root on Linux; says so and fails elsewhere.

Goodput is what the receiving application has read, as a share of the link's rate; of
1200 bytes in a packet on this link 1228 are the link's, so that 93.7 % is all there is.
Utilisation counts the link's bytes in packets that left the queue. Both begin
`WARM_UP_S` after the flow. Fairness is Jain's index of the goodputs of flows that begin
one second apart, over the last three quarters of a run that is three times as long:
two flows of kernel CUBIC need as long to share evenly. The queueing delay is the
longest wait in the link's queue in each 10 ms.
"""

import contextlib
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import trio

from benchmarks.figures import BenchmarkError, Measure, Report, measure
from benchmarks.link_emulator import LinkSpec
from benchmarks.link_flow import RUDP, End, Times
from benchmarks.program import Line, Program, open_program

WARM_UP_S = 2.0
STARTS_IN_S = 0.5
STAGGER_S = 1.0
LOSS = 0.01
# A process that says nothing for this long hangs.
PATIENCE_S = 30.0
SCENARIOS = ("clean", "loss", "two", "tcp", "three", "tcp-loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowOutcome:
    """What became of one flow: its bytes by time, and its sender's state by time."""

    transport: str
    progress: Sequence[tuple[float, int]]
    states: Sequence[Line] = ()

    def bytes_between(self, begins_at: float, ends_at: float) -> float:
        """Bytes that the application read in that time."""
        return self._bytes_at(ends_at) - self._bytes_at(begins_at)

    def _bytes_at(self, moment: float) -> float:
        known = ((0.0, 0), *self.progress)
        for (before_at, before), (after_at, after) in itertools.pairwise(known):
            if before_at <= moment < after_at:
                share = (moment - before_at) / (after_at - before_at)
                # Before the first report nothing is known, and that is nothing.
                return before + share * (after - before) if before_at else 0.0
        return float(known[-1][1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one run, in the seconds that count."""

    spec: LinkSpec
    begins_at: float
    ends_at: float
    flows: tuple[FlowOutcome, ...]
    trace: Sequence[tuple[float, float, float]] = field(repr=False)
    account: dict[str, float] = field(repr=False)

    @property
    def goodputs_percent(self) -> list[float]:
        """Of each flow, of the link's rate."""
        whole = self.spec.rate_bytes_per_s * (self.ends_at - self.begins_at)
        return [
            100 * flow.bytes_between(self.begins_at, self.ends_at) / whole
            for flow in self.flows
        ]

    @property
    def utilisation_percent(self) -> float:
        """Of the link's rate, what left its queue."""
        rows = self._rows()
        if len(rows) < 2:  # noqa: PLR2004 - a difference needs two
            return 0.0
        duration_s = rows[-1][0] - rows[0][0]
        carried = rows[-1][2] - rows[0][2]
        return 100 * carried / (self.spec.rate_bytes_per_s * duration_s)

    @property
    def queue_delays_rtt(self) -> list[float]:
        """Longest waits in the queue per 10 ms, in round trips."""
        return [row[1] / self.spec.rtt_s for row in self._rows()]

    @property
    def jain(self) -> float:
        """Jain's index of the goodputs: 1 is fair, 1/n is one flow that has all."""
        return jain(self.goodputs_percent)

    def _rows(self) -> list[tuple[float, float, float]]:
        return [r for r in self.trace if self.begins_at <= r[0] <= self.ends_at]


def jain(shares: Sequence[float]) -> float:
    """Jain's fairness index (R. Jain et al., DEC-TR-301, 1984)."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0


async def run(
    *,
    spec: LinkSpec,
    seconds: float = 20.0,
    runs: int = 1,
    algorithm: str = "",
    only: Sequence[str] = SCENARIOS,
    trace: Path | None = None,
) -> Report:
    """Measure the scenarios one after the other, each ``runs`` times.

    Args:
        spec: The link; its loss is that of the scenarios with loss.
        seconds: Length of a scenario with one flow; with more it is three times that.
        runs: Times that each is measured.
        algorithm: Congestion control of ours, empty for the default.
        only: Which scenarios.
        trace: A file for everything that was seen, one line of JSON for each run.
    """
    values: dict[str, list[float]] = {}
    facts: dict[str, int | float | str] = {
        "mbit": spec.mbit,
        "rtt_ms": 1000 * spec.rtt_s,
        "buffer_bdp": spec.buffer_bdp,
        "loss_percent": 100 * (spec.loss or LOSS),
        "seconds": seconds,
        "algorithm": algorithm or "default",
    }
    for number in range(runs):
        seeded = replace(spec, seed=spec.seed + 2 * number)
        for name in only:
            found = await _scenario(name, seeded, _Plan(seconds, algorithm, trace))
            for key, value in found.items():
                values.setdefault(key, []).append(value)
    measures: dict[str, Measure] = {
        key: measure(found) for key, found in values.items()
    }
    return Report(figure="link", measures=measures, facts=facts)


async def _scenario(name: str, spec: LinkSpec, alone: "_Plan") -> dict[str, float]:
    """One scenario's values by name."""
    lossless, lossy = replace(spec, loss=0.0), replace(spec, loss=spec.loss or LOSS)
    shared = replace(alone, seconds=3 * alone.seconds)
    match name:
        case "clean":
            outcome = await alone.carry(lossless, [RUDP])
            delays = measure(outcome.queue_delays_rtt)
            return {
                "goodput_percent": outcome.goodputs_percent[0],
                "utilisation_percent": outcome.utilisation_percent,
                "queue_delay_rtt": delays.p99,
                "queue_delay_median_rtt": delays.median,
                "emulator_late_ms": outcome.account["late_ms"],
            }
        case "loss":
            outcome = await alone.carry(lossy, [RUDP])
            return {
                "loss_goodput_percent": outcome.goodputs_percent[0],
                "loss_utilisation_percent": outcome.utilisation_percent,
            }
        case "two":
            outcome = await shared.carry(lossless, [RUDP, RUDP])
            return {"jain": outcome.jain, **_shares("two", outcome)}
        case "tcp":
            outcome = await shared.carry(lossless, [RUDP, "cubic"])
            return {"jain_tcp": outcome.jain, **_shares("tcp", outcome)}
        case "three":
            outcome = await shared.carry(lossless, [RUDP, RUDP, "cubic"])
            return {"jain_three": outcome.jain, **_shares("three", outcome)}
        case "tcp-loss":
            found = {}
            for control in ("reno", "cubic"):
                outcome = await alone.carry(lossy, [control])
                found[f"loss_{control}_percent"] = outcome.goodputs_percent[0]
            return found
        case _:
            raise BenchmarkError(f"no scenario {name!r}, there are {SCENARIOS}")


def _append(file: Path, outcome: Outcome) -> None:
    with file.open("a", encoding="ascii") as out:
        out.write(json.dumps(asdict(outcome)) + "\n")


def _shares(scenario: str, outcome: Outcome) -> dict[str, float]:
    return {
        f"{scenario}_{index}_{flow.transport}_percent": share
        for index, (flow, share) in enumerate(
            zip(outcome.flows, outcome.goodputs_percent, strict=True)
        )
    }


@dataclass(frozen=True, slots=True)
class _Plan:
    """How long flows run, and with which congestion control."""

    seconds: float
    algorithm: str
    trace: Path | None

    async def carry(self, spec: LinkSpec, transports: Sequence[str]) -> Outcome:
        """Let one flow per transport share a link."""
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(trio.fail_after(self.seconds + PATIENCE_S))
            link = await stack.enter_async_context(
                open_program("benchmarks.link_emulator", asdict(spec))
            )
            places = await link.line()
            flows = [
                (
                    await stack.enter_async_context(self._end(places, index, name, 0)),
                    await stack.enter_async_context(self._end(places, index, name, 1)),
                )
                for index, name in enumerate(transports)
            ]
            for program in itertools.chain.from_iterable(flows):
                await program.line()
            starts_at = time.perf_counter() + STARTS_IN_S
            outcomes = await self._run_flows(flows, transports, starts_at)
            await link.close_input()
            account = await link.line()
        settles_s = WARM_UP_S if len(transports) == 1 else self.seconds / 4
        outcome = Outcome(
            spec=spec,
            begins_at=starts_at + settles_s,
            ends_at=starts_at + self.seconds,
            flows=outcomes,
            trace=account.pop("trace"),
            account=account,
        )
        if self.trace is not None:
            _append(self.trace, outcome)
        return outcome

    def _end(
        self, places: dict[str, str], index: int, transport: str, sends: int
    ) -> contextlib.AbstractAsyncContextManager[Program]:
        end = End(
            namespace=places["sender" if sends else "receiver"],
            sends=bool(sends),
            transport=transport,
            index=index,
            algorithm=self.algorithm,
        )
        return open_program("benchmarks.link_flow", asdict(end))

    async def _run_flows(
        self,
        flows: Sequence[tuple[Program, Program]],
        transports: Sequence[str],
        starts_at: float,
    ) -> tuple[FlowOutcome, ...]:
        ends_at = starts_at + self.seconds
        said: dict[tuple[int, int], list[Line]] = {}

        async def listen(index: int, side: int) -> None:
            # Both at once: a program that nobody reads from stops at a full pipe.
            program = flows[index][side]
            times = Times(starts_at + index * STAGGER_S, ends_at)
            await program.say(asdict(times))
            said[index, side] = [line async for line in program.lines()]

        async with trio.open_nursery() as nursery:
            for index, side in itertools.product(range(len(flows)), (0, 1)):
                nursery.start_soon(listen, index, side)
        return tuple(
            FlowOutcome(
                transport=transport,
                progress=[(line["at"], line["bytes"]) for line in said[index, 0]],
                states=said[index, 1],
            )
            for index, transport in enumerate(transports)
        )
