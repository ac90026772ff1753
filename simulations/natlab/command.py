"""`python -m simulations natlab …`: labs by hand.

Owns the words of the command line. Refuses to know how a lab is built.
"""

import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Final

import click
import msgspec
import trio

from opnode.core.errors import OpnodeError
from simulations.natlab import namespaces
from simulations.natlab.lab import Lab
from simulations.natlab.matrix import TYPES, MatrixConfig, measure, table
from simulations.natlab.spec import LabSpec, parse_toml, parse_words

DEFAULT_NAME: Final = "lab"

_name_option = click.option(
    "--name",
    default=DEFAULT_NAME,
    show_default=True,
    help="Which lab; several may be up at once.",
)


class _Group(click.Group):
    """Shows what went wrong as one line."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except OpnodeError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Group)
def natlab() -> None:
    """Hosts behind real NATs, in network namespaces of this machine. Needs root."""
    if reason := namespaces.obstacle():
        raise click.ClickException(reason)


@natlab.command()
@click.argument("words", nargs=-1)
@click.option(
    "--spec",
    "file",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="A TOML file with [hosts.NAME] and [nats.NAME], instead of words.",
)
@_name_option
def up(words: tuple[str, ...], file: Path | None, name: str) -> None:
    """Build a lab from WORDS like seed=open alice=port bob=port/sym.

    It stays until ``down``; a lab of the same name is replaced. The types are open,
    full, addr, port, sym, seq and block; port/sym is a NAT behind a NAT.
    """
    spec = parse_toml(file.read_text("utf-8")) if file else parse_words(words)
    lab = Lab(spec, name)
    lab.up()
    for host in spec.hosts:
        click.echo(f"{host:<12} {lab.address(host):<16} {_fronts(spec, lab, host)}")


def _fronts(spec: LabSpec, lab: Lab, host: str) -> str:
    """The NATs in front of a host, in words."""
    parts = []
    above = spec.hosts[host].behind
    while above is not None:
        parts.append(f"{spec.nats[above].type.value} {lab.address(above)}")
        above = spec.nats[above].behind
    return "behind " + ", behind ".join(parts) if parts else "open"


@natlab.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("host")
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED)
@_name_option
def exec_(host: str, words: tuple[str, ...], name: str) -> None:
    """Run a command in HOST (or a NAT, or ``net``, the public segment)."""
    space = f"{namespaces.PREFIX}{name}-{host}"
    if space not in namespaces.existing(space):
        raise click.ClickException(f"no {host} in lab {name}; build it with: natlab up")
    # The command takes this process's place, with its terminal and its exit code.
    command = ["ip", "netns", "exec", space, *words]
    os.execvp("ip", command)  # noqa: S606, S607 - `ip` lies where the system has it


@natlab.command()
@_name_option
@click.option("--all", "is_all", is_flag=True, help="Every lab, whoever built it.")
def down(name: str, *, is_all: bool) -> None:
    """Remove a lab and all that runs in it, and what crashed labs left behind."""
    prefix = namespaces.PREFIX if is_all else f"{namespaces.PREFIX}{name}-"
    names = {*namespaces.existing(prefix), *namespaces.abandoned()}
    namespaces.remove(sorted(names))
    click.echo(f"removed {len(names)} namespaces", file=sys.stderr)


@natlab.command()
@click.option("--types", default=",".join(TYPES), show_default=True)
@click.option("--runs", default=10, type=click.IntRange(1), show_default=True)
@click.option("--rtt-ms", default=50.0, type=click.FloatRange(0), show_default=True)
@click.option(
    "--relay/--no-relay",
    "has_relay",
    default=True,
    show_default=True,
    help="Whether one of the three seeds relays, and lets in by WebSocket.",
)
@click.option("--json", "is_json", is_flag=True, help="One line of JSON at the end.")
def matrix(
    *,
    types: str,
    runs: int,
    rtt_ms: float,
    has_relay: bool,
    is_json: bool,
) -> None:
    """Connect every pair of NAT TYPES, with real processes, and show the paths.

    The exit code is 1 when a pair with a direct path in principle did not get it, a
    connect failed, or direct connects took more than 3 round trips and 60 ms.
    """
    config = MatrixConfig(
        types=tuple(types.split(",")),
        runs=runs,
        rtt_ms=rtt_ms,
        has_relay=has_relay,
    )
    tell = partial(click.echo, err=True)
    with tempfile.TemporaryDirectory() as directory:
        found = trio.run(measure, config, Path(directory), tell)
    if is_json:
        cells = [
            msgspec.to_builtins(cell)
            | {"kinds": cell.kinds, "connect_ms": cell.connect_ms}
            for cell in found.cells
        ]
        figures = {
            "scenario": "natlab matrix",
            "config": msgspec.to_builtins(config),
            "cells": cells,
            "direct_ms": found.direct_ms,
            "missed": found.missed,
        }
        click.echo(msgspec.json.encode(figures).decode())
    else:
        click.echo(table(found))
    if found.missed:
        sys.exit(1)
