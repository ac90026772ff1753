"""`opnode trace`: a lookup in the running node, drawn as the tree that it was.

Owns the drawing and the closing verdict. Refuses to know how a lookup finds its way.
"""

# ruff: noqa: D301 - click needs the character "\b" to leave a block unwrapped.

from collections import defaultdict
from pathlib import Path
from typing import Final

import click
from rich.text import Text
from rich.tree import Tree

from opnode.cli.options import TargetType, common_options
from opnode.cli.output import Output, set_up_logging
from opnode.cli.talk import ask_node
from opnode.core.text import printable
from opnode.daemon import control_messages as messages
from opnode.daemon.control_messages import Event

SHOWN_DIGITS: Final = 8
"""Of a node id: enough to tell the nodes of one lookup apart."""

MAX_WIDTH: Final = 50
"""Columns for the branch, the id and the address: an IPv4 one, five levels deep."""

ROOT: Final = "our own contacts"
TITLES: Final = "path  bits round trip"

GUIDE: Final = 4
"""Columns that each level of the tree takes."""

STYLES: Final = {"answered": "", "late": "yellow", "failed": "red", "open": "dim"}


@click.command()
@click.argument("key", type=TargetType())
@click.option(
    "--nodes",
    is_flag=True,
    help="Look for the nodes nearest to KEY, not for records under it.",
)
@common_options
def trace(
    key: str, *, nodes: bool, data: Path | None, is_json: bool, is_verbose: bool
) -> None:
    """Look KEY up in the running node and show every hop.

    KEY is a peer id (op1...), the name of a contact, or 40 hexadecimal digits of a
    storage key. Each line is a node that was asked, below the one that named it: its
    id and address, the path it belongs to, how many bits it shares with KEY, its round
    trip, how many new nodes it named (+), its records. Those marked * lie in KEY's
    region, all of which has to answer.

    \b
    Examples:
        opnode trace ann
        opnode trace 5a0cba4df06eb3f46b41432eb3f21e9d59b7bf2c --nodes
        opnode trace ann --json | jq -r 'select(.event == "hop") | .endpoint'
    """
    set_up_logging(is_verbose=is_verbose)
    view = TraceView()
    request = messages.Trace(target=key, nodes=nodes)
    ask_node(request, data, Output(is_json=is_json), view.show)


class TraceView:
    """Gathers the hops of one lookup; draws them when it has ended."""

    def __init__(self) -> None:
        """Nothing is drawn yet."""
        self._hops: list[messages.Hop] = []

    def show(self, event: Event, output: Output) -> None:
        """Take an event."""
        if isinstance(event, messages.Hop):
            self._hops.append(event)
        elif isinstance(event, messages.Traced) and not output.is_json:
            output.text(f"looking for {event.target}", style="italic")
            if self._hops:
                output.console.print(_tree(self._hops))
            text, is_good = verdict(event)
            output.text(text, style="green" if is_good else "yellow")


def verdict(end: messages.Traced) -> tuple[str, bool]:
    """One line on what came of a lookup, and whether that is what was wanted."""
    if not end.asked:
        return "nobody to ask: this node knows no other (see opnode doctor)", False
    effort = f"{end.answered} of {end.asked} asked answered, {end.took_ms:.0f} ms"
    if not end.complete:
        effort += "; ended at a limit"
    if end.nodes:
        return f"done: {effort}", end.complete and end.answered > 0
    if end.records:
        found = f"found: {_count(end.records, 'record')}"
        if end.holders:
            found += f" at {_count(end.holders, 'node')}"
        else:
            found += " held here alone"
        if end.first_record_ms is not None:
            found += f", first after {end.first_record_ms:.0f} ms"
        return f"{found}; {effort}", True
    if end.holders:
        handed_out = _count(end.holders, "node")
        return f"nothing that verifies, from {handed_out}; {effort}", False
    return f"not found: {effort}", False


def _tree(hops: list[messages.Hop]) -> Tree:
    """Hang each hop below the one that named it; all that are left, at the root."""
    named: dict[int | None, list[messages.Hop]] = defaultdict(list)
    depths: dict[int, int] = {}
    for hop in hops:
        # Only an earlier hop can have named one: a wrong number makes no circle.
        parent = hop.named_by if hop.named_by in depths else None
        depths[hop.number] = 1 if parent is None else depths[parent] + 1
        named[parent].append(hop)
    width = max(GUIDE * depths[hop.number] + len(_where(hop)) for hop in hops)
    width = min(width, MAX_WIDTH)
    root = Tree(Text(f"{ROOT:<{width}} {TITLES}", style="dim", no_wrap=True))
    waiting: list[tuple[Tree, int | None]] = [(root, None)]
    while waiting:
        branch, number = waiting.pop()
        for hop in named[number]:
            room = max(width - GUIDE * depths[hop.number], 0)
            waiting.append((branch.add(_line(hop, room)), hop.number))
    return root


def _where(hop: messages.Hop) -> str:
    return printable(f"{hop.node_id[:SHOWN_DIGITS]} {hop.endpoint}")


def _line(hop: messages.Hop, width: int) -> Text:
    took = hop.outcome if hop.rtt_ms is None else f"{hop.rtt_ms:.1f} ms"
    mark = "*" if hop.in_region else " "
    columns = f"{mark}{hop.path + 1:>3} {hop.shared_bits:>5} {printable(took):>10}"
    line = Text(f"{_where(hop):<{width}} {columns}", no_wrap=True)
    if hop.new:
        line.append(f" +{hop.new}", style="dim")
    if hop.rtt_ms is not None and hop.outcome == "late":
        line.append(" late")
    if hop.records:
        line.append(f" {_count(hop.records, 'record')}", style="bold green")
    line.style = STYLES.get(hop.outcome, "")
    return line


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
