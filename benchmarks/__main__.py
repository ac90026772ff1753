"""``python -m benchmarks NAME [--json]``: arguments, output and exit codes.

Exit codes: 0 measured, 1 the benchmark failed, 2 wrong use.
"""

import functools
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import click
import trio
from rich.console import Console

from benchmarks import (
    abuse,
    calls,
    channel,
    connect,
    dht,
    handshake,
    idle,
    introducer,
    link,
    messages,
    registry,
    relay,
    simulators,
    startup,
)
from benchmarks.call_network import CallPlan
from benchmarks.figures import BenchmarkError, Report, json_line, leaves, print_table
from benchmarks.link_emulator import LinkSpec
from opnode.core.errors import OpnodeError

as_json = click.option("--json", "as_json", is_flag=True, help="One line of JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def benchmarks() -> None:
    """Figures of opnode on this machine."""


@benchmarks.command("connect")
@click.option("--connects", default=100, show_default=True, type=click.IntRange(1))
@click.option("--nodes", default=20, show_default=True, type=click.IntRange(2, 500))
@as_json
def connect_command(connects: int, nodes: int, *, as_json: bool) -> None:
    """Milliseconds from a PeerId to the first echoed byte."""
    _report(functools.partial(connect.run, connects=connects, nodes=nodes), as_json)


@benchmarks.command("calls")
@click.option("--runs", default=1, show_default=True, type=click.IntRange(1))
@click.option("--nodes", default=30, show_default=True, type=click.IntRange(3, 500))
@click.option("--relays", default=1, show_default=True, type=click.IntRange(0))
@click.option("--users", default=200, show_default=True, type=click.IntRange(20, 2000))
@click.option("--set-ups", default=100, show_default=True, type=click.IntRange(1))
@click.option("--many", default=1000, show_default=True, type=click.IntRange(0))
@click.option("--long-calls", default=20, show_default=True, type=click.IntRange(0))
@as_json
def calls_command(  # noqa: PLR0913, PLR0917 - one argument per option
    runs: int,
    nodes: int,
    relays: int,
    users: int,
    set_ups: int,
    many: int,
    long_calls: int,
    *,
    as_json: bool,
) -> None:
    """Set-up times, failures and gaps of calls behind NATs, in virtual time."""
    sizes = CallPlan(
        nodes=nodes,
        relays=relays,
        users=users,
        set_ups=set_ups,
        many=many,
        long_calls=long_calls,
    )
    _report(functools.partial(calls.run, calls.Plan(calls=sizes, runs=runs)), as_json)


@benchmarks.command("channel")
@click.option("--runs", default=5, show_default=True, type=click.IntRange(1))
@click.option("--mebibytes", default=256, show_default=True, type=click.IntRange(1))
@click.option("--loss-percent", default=1.0, show_default=True, help="Where loss is.")
@click.option("--algorithm", type=click.Choice(["cubic", "bbr"]), help="Ours.")
@click.option("--only", multiple=True, type=click.Choice(list(channel.VARIANTS)))
@as_json
def channel_command(
    runs: int,
    mebibytes: int,
    loss_percent: float,
    algorithm: str | None,
    only: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Megabytes per second on one channel between two processes."""
    plan = channel.Plan(
        runs=runs,
        mebibytes=mebibytes,
        loss=loss_percent / 100,
        algorithm=algorithm or "",
        only=only or tuple(channel.VARIANTS),
    )
    _report(functools.partial(channel.run, plan), as_json)


@benchmarks.command("handshake")
@click.option("--connects", default=400, show_default=True, type=click.IntRange(0))
@click.option("--connections", default=10_000, show_default=True, type=int)
@click.option("--seconds", default=60.0, show_default=True, type=click.FloatRange(1))
@as_json
def handshake_command(
    connects: int, connections: int, seconds: float, *, as_json: bool
) -> None:
    """What connections cost to make, to accept and to hold."""
    measured = functools.partial(
        handshake.run, connects=connects, connections=connections, seconds=seconds
    )
    _report(measured, as_json)


@benchmarks.command("abuse")
@click.option("--runs", default=9, show_default=True, type=click.IntRange(1))
@click.option("--mebibytes", default=32, show_default=True, type=click.IntRange(1))
@click.option("--rate", default=2000, show_default=True, type=click.IntRange(1))
@as_json
def abuse_command(runs: int, mebibytes: int, rate: int, *, as_json: bool) -> None:
    """What an attack leaves of an honest connection's speed."""
    measured = functools.partial(abuse.run, runs=runs, mebibytes=mebibytes, rate=rate)
    _report(measured, as_json)


@benchmarks.command("messages")
@click.option("--runs", default=5, show_default=True, type=click.IntRange(1))
@click.option("--count", default=400_000, show_default=True, type=click.IntRange(1))
@click.option("--roundtrips", default=5000, show_default=True, type=click.IntRange(1))
@click.option("--seconds", default=5.0, show_default=True, type=click.FloatRange(1))
@as_json
def messages_command(
    runs: int, count: int, roundtrips: int, seconds: float, *, as_json: bool
) -> None:
    """Messages of 100 bytes per second, their round trips, and 50 a second."""
    plan = messages.Plan(
        runs=runs, count=count, roundtrips=roundtrips, paced_seconds=seconds
    )
    _report(functools.partial(messages.run, plan), as_json)


@benchmarks.command("idle")
@click.option("--nodes", default=21, show_default=True, type=click.IntRange(2, 500))
@click.option("--seconds", default=90.0, show_default=True, type=click.FloatRange(1))
@click.option("--identities/--no-identities", default=True, show_default=True)
@as_json
def idle_command(
    nodes: int, seconds: float, *, identities: bool, as_json: bool
) -> None:
    """Bytes per second of a node that nobody uses."""
    measured = functools.partial(
        idle.run, nodes=nodes, seconds=seconds, identities=identities
    )
    _report(measured, as_json)


@benchmarks.command("introducer")
@click.option("--leaves", default=100, show_default=True, type=click.IntRange(2, 500))
@click.option("--seconds", default=180.0, show_default=True, type=click.FloatRange(1))
@click.option("--connects", default=50, show_default=True, type=click.IntRange(1))
@click.option(
    "--introductions", default=400, show_default=True, type=click.IntRange(20)
)
@click.option("--settle", default=420.0, show_default=True, type=click.FloatRange(0))
@as_json
def introducer_command(
    leaves: int,
    seconds: float,
    connects: int,
    introductions: int,
    settle: float,
    *,
    as_json: bool,
) -> None:
    """What a server spends on those whom it introduces."""
    plan = introducer.Plan(
        leaves=leaves,
        settle=settle,
        seconds=seconds,
        connects=connects,
        introductions=introductions,
    )
    _report(functools.partial(introducer.run, plan), as_json)


@benchmarks.command("relay")
@click.option("--runs", default=5, show_default=True, type=click.IntRange(1))
@click.option("--mebibytes", default=64, show_default=True, type=click.IntRange(1))
@as_json
def relay_command(runs: int, mebibytes: int, *, as_json: bool) -> None:
    """Megabytes per second through one relay, against the direct path."""
    plan = relay.Plan(runs=runs, mebibytes=mebibytes)
    _report(functools.partial(relay.run, plan), as_json)


@benchmarks.command("link")
@click.option("--mbit", default=100.0, show_default=True, type=click.FloatRange(1, 200))
@click.option("--rtt-ms", default=50.0, show_default=True, type=click.FloatRange(1))
@click.option("--loss-percent", default=1.0, show_default=True, help="Where loss is.")
@click.option("--seconds", default=20.0, show_default=True, type=click.FloatRange(4))
@click.option("--runs", default=1, show_default=True, type=click.IntRange(1))
@click.option("--algorithm", type=click.Choice(["cubic", "bbr"]), help="Ours.")
@click.option("--only", multiple=True, type=click.Choice(link.SCENARIOS))
@click.option("--trace", type=click.Path(path_type=Path), help="All that was seen.")
@as_json
def link_command(  # noqa: PLR0913, PLR0917 - one argument per option
    mbit: float,
    rtt_ms: float,
    loss_percent: float,
    seconds: float,
    runs: int,
    algorithm: str | None,
    only: tuple[str, ...],
    trace: Path | None,
    *,
    as_json: bool,
) -> None:
    """Share of an emulated link, fairness and queue beside the kernel's TCP (root)."""
    measured = functools.partial(
        link.run,
        spec=LinkSpec(mbit=mbit, rtt_s=rtt_ms / 1000, loss=loss_percent / 100),
        seconds=seconds,
        runs=runs,
        algorithm=algorithm or "",
        only=only or link.SCENARIOS,
        trace=trace,
    )
    _report(measured, as_json)


@benchmarks.command("dht")
@click.option("--nodes", default=100, show_default=True, type=click.IntRange(10, 5000))
@click.option("--runs", default=5, show_default=True, type=click.IntRange(1))
@click.option("--kind", "kinds", multiple=True, type=click.Choice(dht.KINDS))
@as_json
def dht_command(
    nodes: int, runs: int, kinds: tuple[str, ...], *, as_json: bool
) -> None:
    """Puts, reads and memory of a network in one process; then 30 % of it dead."""
    plan = dht.Plan(nodes=nodes, runs=runs, kinds=kinds or dht.KINDS)
    _report(functools.partial(dht.run, plan), as_json)


@benchmarks.command("registry")
@click.option("--runs", default=5, show_default=True, type=click.IntRange(1))
@click.option("--clients", default=100, show_default=True, type=click.IntRange(1))
@click.option("--leaves", default=1, show_default=True, type=click.IntRange(1, 100))
@as_json
def registry_command(runs: int, clients: int, leaves: int, *, as_json: bool) -> None:
    """Three servers, 4000 signed records, a hundred clients: put all, read all."""
    plan = registry.Plan(runs=runs, clients=clients, leaves=leaves)
    _report(functools.partial(registry.run, plan), as_json)


@benchmarks.command("simulators")
@click.option("--runs", default=3, show_default=True, type=click.IntRange(1))
@click.option("--joining", default=1500, show_default=True, type=click.IntRange(2))
@click.option("--churning", default=100_000, show_default=True, type=click.IntRange(2))
@click.option("--hours", default=24.0, show_default=True, type=click.FloatRange(0.1))
@as_json
def simulators_command(
    runs: int, joining: int, churning: int, hours: float, *, as_json: bool
) -> None:
    """Speed and memory of the three backends of the simulations."""
    plan = simulators.Plan(runs=runs, joining=joining, churning=churning, hours=hours)
    _report(functools.partial(simulators.run, plan), as_json)


@benchmarks.command("startup")
@click.option("--runs", default=20, show_default=True, type=click.IntRange(1))
@as_json
def startup_command(runs: int, *, as_json: bool) -> None:
    """CPU seconds of `opnode --version`."""
    _report(functools.partial(startup.run, runs=runs), as_json)


def _report(measured: Callable[[], Awaitable[Report]], as_json: bool) -> None:
    try:
        report = trio.run(measured)
    except* (BenchmarkError, OpnodeError, OSError, trio.TooSlowError) as failures:
        for failure in leaves(failures):
            print(f"benchmark failed: {failure!r}", file=sys.stderr)
        sys.exit(1)
    if as_json:
        print(json_line(report))
    else:
        print_table(report, Console())


if __name__ == "__main__":
    benchmarks(prog_name="python -m benchmarks")
