"""`opnode doctor`: what is right and wrong with a node, and what to do about it.

Owns whether the running node or a trial one is examined, and how findings look. Refuses
to judge: the verdicts come from the examination.
"""

# ruff: noqa: D301 - click needs the character "\b" to leave a block unwrapped.

from contextlib import aclosing
from pathlib import Path
from typing import Final

import click
import trio

from opnode.cli.client import NodeNotRunning, open_client
from opnode.cli.main import FAILED
from opnode.cli.output import Output, set_up_logging
from opnode.cli.run import NETWORK_NAME, node_options, seed_entries
from opnode.cli.talk import run_or_raise
from opnode.core.errors import LocalProtocolError
from opnode.daemon import control_messages as messages
from opnode.daemon.control_doctor import report_findings
from opnode.daemon.control_messages import Event
from opnode.node.bootstrap import BootstrapEntry
from opnode.node.config import EVERY_INTERFACE, NodeConfig
from opnode.node.data_directory import default_data_directory
from opnode.node.node import open_node

JOIN_S: Final = 10.0
"""A trial node that has found nobody by then is examined as it is."""

STYLES: Final = {"ok": "green", "warn": "yellow", "bad": "bold red", "unknown": "dim"}


@click.command()
@node_options
def doctor(
    *,
    data: Path | None,
    is_json: bool,
    is_verbose: bool,
    bootstrap: tuple[BootstrapEntry, ...],
    seeds: Path | None,
) -> None:
    """Examine your node: joined? reachable? clock? table? disk? writes?

    Asks other nodes and takes some seconds. Where no node runs, a trial node is
    started in memory and examined; --bootstrap and --seeds are for that one. The exit
    code is 1 if anything is bad.

    \b
    Examples:
        opnode doctor
        opnode doctor --bootstrap opnode://KEY@seed.example.org:4848
        opnode doctor --json | jq -r 'select(.verdict == "bad") | .advice'
    """
    set_up_logging(is_verbose=is_verbose)
    view = DoctorView(Output(is_json=is_json))

    async def run() -> None:
        try:
            await _examine_running(data, view, is_told=bool(bootstrap or seeds))
        except NodeNotRunning:
            if view.has_begun:
                raise
            directory = data or default_data_directory()
            entries = bootstrap or seed_entries(seeds, directory)
            await _examine_trial(entries, view)

    run_or_raise(run)
    if not view.is_healthy:
        raise click.exceptions.Exit(FAILED)


async def _examine_running(
    data: Path | None, view: "DoctorView", *, is_told: bool
) -> None:
    async with open_client(data) as client:
        view.begin(is_running=True)
        if is_told:
            view.output.text(
                "(its own entries are probed, not those of --bootstrap or --seeds)"
            )
        async with aclosing(client.events(messages.Doctor())) as events:
            async for event in events:
                view.show(event)


async def _examine_trial(
    entries: tuple[BootstrapEntry, ...], view: "DoctorView"
) -> None:
    view.begin(is_running=False)
    config = NodeConfig(
        listen=EVERY_INTERFACE,
        bootstrap=entries,
        has_identity=False,
        network_name=NETWORK_NAME,
        prove_after_s=0.0,
    )

    async def show(event: Event) -> None:
        view.show(event)
        await trio.lowlevel.checkpoint()

    async with open_node(config) as node:
        with trio.move_on_after(JOIN_S if entries else 0):
            await node.wait_joined()
        await report_findings(node, None, show)


class DoctorView:
    """Shows findings as they come."""

    def __init__(self, output: Output) -> None:
        """Nothing is shown yet."""
        self.output = output
        self.has_begun = False
        self.is_healthy = False

    def begin(self, *, is_running: bool) -> None:
        """Say who is examined."""
        self.has_begun = True
        self.output.event({"event": "examining", "running": is_running})
        self.output.text(
            "examining the running node"
            if is_running
            else "no node runs here: examining a trial node, in memory",
            style="italic",
        )

    def show(self, event: Event) -> None:
        """Show a finding or the end."""
        self.output.event(event)
        match event:
            case messages.Check():
                self._show_check(event)
            case messages.Diagnosis():
                self.is_healthy = not event.bad
                text, style = summary(event)
                self.output.text(text, style=style)
            case _:
                text = "the running node answered something else than findings"
                raise LocalProtocolError(text)

    def _show_check(self, check: messages.Check) -> None:
        style = STYLES.get(check.verdict, "")
        self.output.text(
            f"{check.verdict:>7}  {check.name}: {check.finding}", style=style
        )
        if check.advice:
            self.output.text(f"{'':>9}-> {check.advice}")


def summary(diagnosis: messages.Diagnosis) -> tuple[str, str]:
    """The closing line and its style."""
    total = diagnosis.ok + diagnosis.warn + diagnosis.bad + diagnosis.unknown
    parts = [
        f"{number} {words}"
        for number, words in (
            (diagnosis.bad, "bad"),
            (diagnosis.warn, "to look at"),
            (diagnosis.unknown, "not known"),
        )
        if number
    ]
    if not parts:
        return f"all {total} checks are well", "green"
    verdict = "bad" if diagnosis.bad else "warn" if diagnosis.warn else "ok"
    return f"of {total} checks: {', '.join(parts)}", STYLES[verdict]
