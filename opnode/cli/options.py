"""Options that several commands share, and the types that check them.

Owns names, help texts and early checks of arguments: what is wrong there is wrong use
(exit code 2). Refuses to know what the commands do with them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from opnode.core.addresses import Endpoint
from opnode.core.errors import ConfigError
from opnode.core.ids import parse_peer_id
from opnode.core.peerfile import MAX_NAME_SIZE
from opnode.node.bootstrap import BootstrapEntry

MAX_TARGET = 256
"""Bytes of a name or key; the control socket takes no longer ones."""

Command = TypeVar("Command", bound=Callable[..., object])


class EndpointType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2 only
    """HOST:PORT with a numeric host."""

    name = "HOST:PORT"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Endpoint:
        """Parse it, or fail with what was expected."""
        if isinstance(value, Endpoint):
            return value
        try:
            return Endpoint.parse(str(value), field="--listen")
        except ConfigError as error:
            self.fail(f"found {error.found}, expected {error.expected}", param, ctx)


class EntryType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2 only
    """A bootstrap entry."""

    name = "ENTRY"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> BootstrapEntry:
        """Parse it, or fail with what was expected."""
        if isinstance(value, BootstrapEntry):
            return value
        try:
            return BootstrapEntry.parse(str(value))
        except ConfigError as error:
            self.fail(f"found {error.found}, expected {error.expected}", param, ctx)


class LocationNameType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2 only
    """What the owner calls a device; travels in its certificate."""

    name = "TEXT"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
        """Check that a certificate can carry it, or fail with what was expected."""
        text = str(value)
        # What the command line had that was no UTF-8 arrives as lone surrogates.
        size = len(text.encode("utf-8", "surrogateescape"))
        if size > MAX_NAME_SIZE:
            expected = f"expected at most {MAX_NAME_SIZE}"
            self.fail(f"found {size} bytes, {expected}", param, ctx)
        if not text.isprintable():
            self.fail(f"found {text!a}, expected printable text", param, ctx)
        return text


class PeerType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2 only
    """A peer id or a contact's name. Names are looked up by the running node."""

    name = "PEER"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
        """Check a peer id for typing errors; leave a name as it is."""
        text = str(value)
        if text.strip().lower().startswith("op1"):
            try:
                parse_peer_id(text)
            except ConfigError as error:
                self.fail(f"found {error.found}, expected {error.expected}", param, ctx)
        return text


class TargetType(PeerType):
    """A key to look up: a PEER, or the hexadecimal digits of a storage key."""

    name = "KEY"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
        """Check a peer id for typing errors, and that a key can be one at all."""
        text = super().convert(value, param, ctx).strip()
        size = len(text.encode("utf-8", "surrogateescape"))
        if not 1 <= size <= MAX_TARGET:
            self.fail(f"found {size} bytes, expected 1 to {MAX_TARGET}", param, ctx)
        return text


def data_option(command: Command) -> Command:
    """``--data DIR``: which node."""
    return click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Data directory of the node. Default: this user's own.",
    )(command)


def json_option(command: Command) -> Command:
    """``--json``: for programs."""
    return click.option(
        "--json", "is_json", is_flag=True, help="Report in lines of JSON."
    )(command)


def verbose_option(command: Command) -> Command:
    """``--verbose``: log."""
    return click.option(
        "--verbose", "is_verbose", is_flag=True, help="Log to standard error."
    )(command)


def qlog_option(command: Command) -> Command:
    """``--qlog DIR``: log what connections do."""
    return click.option(
        "--qlog",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Log every connection to a file in DIR, for a qlog viewer.",
    )(command)


def reach_options(command: Command) -> Command:
    """``--turn-servers`` and ``--no-port-mapping``: what others do for us."""
    turn = click.option(
        "--turn-servers",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="TURN servers for calls that find no direct path; mode 0600.",
    )
    mapping = click.option(
        "--port-mapping/--no-port-mapping",
        default=True,
        help="Ask the home router to forward a port to this node.",
    )
    return turn(mapping(command))


def common_options(command: Command) -> Command:
    """The three options of every command that talks to a node."""
    return data_option(json_option(verbose_option(command)))


def peer_argument(command: Command) -> Command:
    """The argument PEER."""
    return click.argument("peer", type=PeerType())(command)
