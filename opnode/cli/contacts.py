"""`opnode contacts`: names for peers.

Owns the three subcommands. Refuses to know where names are kept.
"""

# ruff: noqa: D301 - click needs the character "\b" to leave a block unwrapped.

from pathlib import Path

import click

from opnode.cli.options import common_options, peer_argument
from opnode.cli.output import Output, set_up_logging
from opnode.cli.talk import ask_node
from opnode.daemon import control_messages as messages
from opnode.daemon.control_messages import Event, Request


@click.group()
def contacts() -> None:
    """Give peers names, to use wherever a command takes a PEER.

    Contacts may send you files without a question when the node runs with
    --accept contacts.

    \b
    Examples:
        opnode contacts add ann op1...
        opnode contacts list
        opnode contacts remove ann
    """


@contacts.command("add")
@click.argument("name")
@peer_argument
@common_options
def add(
    name: str, peer: str, *, data: Path | None, is_json: bool, is_verbose: bool
) -> None:
    """Call PEER by NAME from now on."""
    set_up_logging(is_verbose=is_verbose)
    _change(messages.AddContact(name=name, peer=peer), data, is_json=is_json)


@contacts.command("list")
@common_options
def list_(*, data: Path | None, is_json: bool, is_verbose: bool) -> None:
    """Show everybody who has a name."""
    set_up_logging(is_verbose=is_verbose)
    output = Output(is_json=is_json)
    shown = 0

    def show(event: Event, output: Output) -> None:
        nonlocal shown
        shown += 1
        _show(event, output)

    ask_node(messages.ListContacts(), data, output, show)
    if not shown:
        output.text("no contacts yet; add one with: opnode contacts add NAME PEER")


@contacts.command("remove")
@click.argument("name")
@common_options
def remove(name: str, *, data: Path | None, is_json: bool, is_verbose: bool) -> None:
    """Forget NAME."""
    set_up_logging(is_verbose=is_verbose)
    _change(messages.RemoveContact(name=name), data, is_json=is_json)


def _change(request: Request, data: Path | None, *, is_json: bool) -> None:
    ask_node(request, data, Output(is_json=is_json), _show)


def _show(event: Event, output: Output) -> None:
    if isinstance(event, messages.ContactEntry):
        output.text(f"{event.name}  {event.peer_id}")
