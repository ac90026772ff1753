"""Commands that ask the running node one thing: id, status, lookup, ping, send.

Owns their arguments and what people see. Refuses to know how the node finds the answer.
"""

# ruff: noqa: D301 - click needs the character "\b" to leave a block unwrapped.

import os
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import click
import msgspec

from opnode.cli.client import open_client
from opnode.cli.connection_view import connection_rows
from opnode.cli.options import common_options, peer_argument
from opnode.cli.output import Output, ms_text, set_up_logging
from opnode.cli.progress import TransferBar
from opnode.cli.signals import run_until_signal
from opnode.cli.status_view import (
    duration_text,
    flat,
    node_rows,
    table_lines,
    traffic_lines,
)
from opnode.core.errors import ConfigError
from opnode.daemon import control_messages as messages
from opnode.daemon.control_messages import Event, Request
from opnode.daemon.figures import read_figures

Show = Callable[[Event, Output], None]


@click.command("id")
@common_options
def id_(*, data: Path | None, is_json: bool, is_verbose: bool) -> None:
    """Show who your running node is: give the peer id to whoever shall find you.

    \b
    Examples:
        opnode id
        opnode id --json | jq -r .peer_id
    """
    set_up_logging(is_verbose=is_verbose)
    ask_node(messages.Id(), data, Output(is_json=is_json), _show_identity)


@click.command()
@click.option("--all", "is_all", is_flag=True, help="Show every counter there is.")
@common_options
def status(*, is_all: bool, data: Path | None, is_json: bool, is_verbose: bool) -> None:
    """Show how your running node is: role, table, records, traffic, connections.

    \b
    Examples:
        opnode status
        opnode status --all | less
        opnode status --json | jq .node.contacts
    """
    set_up_logging(is_verbose=is_verbose)
    show = _show_every_figure if is_all else _show_status
    ask_node(messages.Status(), data, Output(is_json=is_json), show)


@click.command()
@peer_argument
@common_options
def lookup(peer: str, *, data: Path | None, is_json: bool, is_verbose: bool) -> None:
    """Find PEER: its devices, and the nodes that introduce to them.

    PEER is a peer id (op1...) or the name of a contact. Every byte of the answer was
    verified by your node.

    \b
    Examples:
        opnode lookup ann
        opnode lookup op1... --json
    """
    set_up_logging(is_verbose=is_verbose)
    request = messages.Lookup(peer=peer)
    ask_node(request, data, Output(is_json=is_json), _show_found)


@click.command()
@peer_argument
@click.option(
    "-c",
    "--count",
    type=click.IntRange(0, 1_000_000),
    default=4,
    show_default=True,
    help="How many round trips to measure.",
)
@click.option(
    "-i",
    "--interval",
    type=click.FloatRange(0.01, 3600),
    default=1.0,
    show_default=True,
    help="Seconds between them.",
)
@common_options
def ping(
    peer: str,
    *,
    count: int,
    interval: float,
    data: Path | None,
    is_json: bool,
    is_verbose: bool,
) -> None:
    """Connect to PEER and measure the way: its path and round trips.

    PEER is a peer id (op1...) or the name of a contact.

    \b
    Examples:
        opnode ping ann
        opnode ping ann --count 1 --json
    """
    set_up_logging(is_verbose=is_verbose)
    request = messages.Ping(peer=peer, count=count, interval_s=interval)
    ask_node(request, data, Output(is_json=is_json), _show_ping)


@click.command()
@peer_argument
@common_options
def hangup(peer: str, *, data: Path | None, is_json: bool, is_verbose: bool) -> None:
    """End the connections to PEER. What is being sent breaks off.

    PEER is a peer id (op1...) or the name of a contact.

    \b
    Examples:
        opnode hangup ann
    """
    set_up_logging(is_verbose=is_verbose)
    request = messages.HangUp(peer=peer)
    ask_node(request, data, Output(is_json=is_json), _show_hung_up)


@click.command()
@peer_argument
@click.argument(
    "file", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
)
@common_options
def send(
    peer: str, file: Path, *, data: Path | None, is_json: bool, is_verbose: bool
) -> None:
    """Send FILE to PEER.

    PEER is a peer id (op1...) or the name of a contact. A transfer whose connection
    breaks goes on by itself; one that you interrupt goes on when you send the same file
    again. The receiver has a whole, verified file or none.

    \b
    Examples:
        opnode send ann holiday.jpg
        opnode send op1... backup.tar --json
    """
    set_up_logging(is_verbose=is_verbose)
    output = Output(is_json=is_json)
    request = messages.Send(peer=peer, path=_utf8_path(file))
    with TransferBar(output, file.name) as bar:
        ask_node(request, data, output, bar.show)


def _utf8_path(file: Path) -> str:
    """Name the file to the node; the control socket and the peer speak UTF-8."""
    path = str(file.absolute())
    try:
        path.encode()
    except UnicodeEncodeError:
        expected = "a name in UTF-8; rename or copy the file"
        raise ConfigError("file", repr(os.fsencode(path)), expected) from None
    return path


def ask_node(request: Request, data: Path | None, output: Output, show: Show) -> None:
    """Send one request to the running node and show its events as they come.

    Raises:
        OpnodeError: no node runs, or it could not do what was asked.
        KeyboardInterrupt: a signal ended it.
    """

    async def converse() -> None:
        async with (
            open_client(data) as client,
            aclosing(client.events(request)) as events,
        ):
            async for event in events:
                output.event(event)
                show(event, output)

    run_or_raise(converse)


def run_or_raise(main: Callable[[], Awaitable[None]]) -> None:
    """Run ``main``; a signal ends it as `KeyboardInterrupt`."""
    if run_until_signal(main):
        raise KeyboardInterrupt


def _show_identity(event: Event, output: Output) -> None:
    if not isinstance(event, messages.Identity):
        return
    output.text(event.peer_id or "a seed: no identity", style="bold")
    rows = {"endpoint": event.endpoint, "node": event.node_id}
    if event.invite is not None:
        rows["invite"] = event.invite
    output.table("", rows)
    if event.invite is None:
        output.text(
            "a leaf: others do not reach this node, so they cannot join through it"
            " (--role server says that they do)"
        )


def _show_status(event: Event, output: Output) -> None:
    if not isinstance(event, messages.StatusReport):
        return
    try:
        figures = read_figures(event.node)
    except msgspec.ValidationError:
        # A node of another version has other figures: show them as they are.
        _show_every_figure(event, output)
        return
    rows = {"you": event.peer_id or "nobody: a seed", **node_rows(figures)}
    output.table(f"opnode {event.version}, up {duration_text(event.uptime_s)}", rows)
    _show_lines(
        "routing table, by bits shared", table_lines(figures.dht.buckets), output
    )
    _show_lines("traffic, in datagrams", traffic_lines(figures.rpc.traffic), output)
    _show_connections(event, output)


def _show_every_figure(event: Event, output: Output) -> None:
    if not isinstance(event, messages.StatusReport):
        return
    rows: dict[str, object] = {
        "version": event.version,
        "peer id": event.peer_id or "none (seed)",
        "up": f"{event.uptime_s:.0f} s",
    }
    output.table("opnode", rows)
    output.table("node", flat(event.node))
    if event.services:
        output.table("services", flat(event.services))
    _show_connections(event, output)


def _show_lines(title: str, lines: list[str], output: Output) -> None:
    if lines:
        output.text(title, style="italic")
    for line in lines:
        output.text(f" {line}")


def _show_connections(event: messages.StatusReport, output: Output) -> None:
    for row in event.connections:
        name = str(row.get("name") or row.get("peer_id"))
        output.table(f"connection to {name}", _connection_rows(row))


def _connection_rows(row: dict[str, object]) -> dict[str, object]:
    try:
        return connection_rows(row)
    except msgspec.ValidationError:
        # A node of another version has other figures: show them as they are.
        return flat(row)


def _show_found(event: Event, output: Output) -> None:
    if not isinstance(event, messages.PeerFound):
        return
    output.text(f"{event.name or event.peer_id}: found in {event.lookup_ms:.1f} ms")
    for location in event.locations:
        through = ", ".join(location.introducers) or "nobody"
        name = location.name or "a device without a name"
        output.text(f"  {name}, introduced by {through}")
    if not event.locations:
        output.text("  no device is online", style="yellow")


def _show_ping(event: Event, output: Output) -> None:
    match event:
        case messages.Connected():
            output.text(connected_text(event))
        case messages.RoundTrip(number=number, ms=None):
            output.text(f"{number}: no answer", style="yellow")
        case messages.RoundTrip(number=number, ms=ms):
            output.text(f"{number}: {ms:.2f} ms")


def _show_hung_up(event: Event, output: Output) -> None:
    if isinstance(event, messages.HungUp):
        output.text("hung up" if event.connections else "there was no connection")


def connected_text(event: messages.Connected) -> str:
    """One line about a connection, for people."""
    where = f"path {event.path}, {event.endpoint}"
    if event.reused:
        return f"connected already: {where}"
    parts = [
        f"lookup {ms_text(event.lookup_ms)}",
        f"introduction {ms_text(event.introduce_ms)}",
        f"ICE {ms_text(event.ice_ms)}",
    ]
    if event.first_byte_ms is not None:
        parts.append(f"first byte after {event.first_byte_ms:.1f} ms")
    return f"connected: {where} ({', '.join(parts)})"
