"""The command `opnode`: its verbs, and how errors and signals become exit codes.

Owns the table of commands; each one's module is imported when it is used, so that
`opnode --version` costs what click costs. Refuses to know what the commands do.
"""

# ruff: noqa: D301 - click needs the character "\b" to leave a block unwrapped.

import importlib
import json
import os
import re
import sys
from typing import Final, NamedTuple

import click

from opnode.core.errors import OpnodeError
from opnode.core.text import printable
from opnode.version import __version__

FAILED: Final = 1
"""Exit code of a command that was understood and did not succeed; wrong use is 2."""

INTERRUPTED: Final = "interrupted"

WORD_BEGINS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class LazyCommand(NamedTuple):
    """Where a command lives, and the line that `opnode --help` shows of it."""

    target: str
    summary: str


COMMANDS: Final = {
    "demo": LazyCommand(
        "opnode.cli.demo:demo", "Watch two nodes meet on this machine."
    ),
    "up": LazyCommand("opnode.cli.run:up", "Run your node."),
    "seed": LazyCommand("opnode.cli.run:seed", "Run a node through which others join."),
    "id": LazyCommand("opnode.cli.talk:id_", "Show who your running node is."),
    "status": LazyCommand("opnode.cli.talk:status", "Show how your node is."),
    "doctor": LazyCommand(
        "opnode.cli.doctor:doctor", "Find out what is wrong, and what to do."
    ),
    "lookup": LazyCommand("opnode.cli.talk:lookup", "Find a peer by its id."),
    "trace": LazyCommand(
        "opnode.cli.trace:trace", "Show a lookup hop by hop, as a tree."
    ),
    "ping": LazyCommand("opnode.cli.talk:ping", "Connect to a peer; measure the way."),
    "hangup": LazyCommand("opnode.cli.talk:hangup", "End the connections to a peer."),
    "send": LazyCommand("opnode.cli.talk:send", "Send a file to a peer."),
    "chat": LazyCommand("opnode.cli.chat:chat", "Exchange lines with a peer."),
    "contacts": LazyCommand("opnode.cli.contacts:contacts", "Give peers names."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order in which a newcomer needs them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        del ctx
        lazy = COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        module, _, attribute = lazy.target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """List the commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, lazy.summary) for name, lazy in COMMANDS.items()]
            )


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Every command has its own help with examples: opnode send --help",
)
@click.version_option(__version__, prog_name="opnode")
def cli() -> None:
    """Find people by identity and talk to them, with no server in between.

    \b
    See it work on this machine:
        opnode demo
    Run your node, in one terminal:
        opnode up --bootstrap opnode://KEY@HOST:PORT
    Use it, in another:
        opnode id
        opnode contacts add ann op1...
        opnode send ann holiday.jpg
    """


def main() -> None:
    """Run the command line; every error ends as one clear line and an exit code."""
    try:
        # Commands return nothing; what comes back is the code of a click `Exit`.
        code = cli(standalone_mode=False)
        sys.stdout.flush()
        if isinstance(code, int) and code:
            sys.exit(code)
    except click.ClickException as error:
        _fail_with_click(error)
    except BrokenPipeError:
        _drop_output()
        sys.exit(FAILED)
    except (KeyboardInterrupt, click.Abort, OpnodeError) as error:
        fail(error)
    except BaseExceptionGroup as group:
        _fail_with_group(group)


def fail(error: BaseException) -> None:
    """Say in one line why the command did not succeed, and end."""
    is_ours = isinstance(error, OpnodeError)
    text = printable(str(error)) if is_ours else INTERRUPTED
    if _is_json():
        _write_error(error_code(error) if is_ours else INTERRUPTED, text)
    else:
        click.echo(f"opnode: {text}", err=True)
    sys.exit(FAILED)


def error_code(error: BaseException) -> str:
    """Name an error for programs, in snake case.

    What the running node reported keeps its name: ``PeerUnreachable`` of the control
    protocol and the exception of that name are both ``peer_unreachable``.
    """
    code = getattr(error, "code", None)
    name = code if isinstance(code, str) else type(error).__name__
    return WORD_BEGINS.sub("_", name).lower()


def _is_json() -> bool:
    """Whether the command line asks for JSON; holds even where it is wrong use."""
    arguments = sys.argv[1:]
    if "--" in arguments:
        arguments = arguments[: arguments.index("--")]
    return "--json" in arguments


def _write_error(code: str, message: str) -> None:
    """Write the last line of a command that reports in JSON."""
    event = {"event": "error", "code": code, "message": message}
    try:
        click.echo(json.dumps(event, separators=(",", ":")))
    except BrokenPipeError:
        _drop_output()


def _drop_output() -> None:
    """The reader of our output is gone, as with `| head`: nothing more to say."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail_with_click(error: click.ClickException) -> None:
    if _is_json():
        _write_error(error_code(error), printable(error.format_message()))
    else:
        error.show()
    sys.exit(error.exit_code)


def _fail_with_group(group: BaseExceptionGroup[BaseException]) -> None:
    """Report our own errors in a nursery's group; anything else is a bug: show all."""
    ours, others = group.split((OpnodeError, KeyboardInterrupt, BrokenPipeError))
    if others is not None or ours is None:
        raise group
    error: BaseException = ours
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, BrokenPipeError):
        _drop_output()
        sys.exit(FAILED)
    fail(error)
