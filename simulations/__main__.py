"""``python -m simulations SCENARIO``: run one and print one JSON line."""

import gc
import logging
import pathlib
import sys
import time
from typing import Final

import click
import msgspec

from simulations.natlab.command import natlab
from simulations.runs import Figures, Scenario, run
from simulations.scenarios.cascade import CascadeScenario
from simulations.scenarios.churn import ChurnScenario
from simulations.scenarios.flood import FloodScenario
from simulations.scenarios.liars import LiarsScenario
from simulations.scenarios.lookup import LookupScenario
from simulations.scenarios.moving import MovingScenario
from simulations.scenarios.nat_table import NatTableScenario
from simulations.scenarios.nat_timers import NatTimersScenario
from simulations.scenarios.one_bad_node import OneBadNodeScenario
from simulations.scenarios.sybil import SybilScenario

SCENARIOS: Final[tuple[type[Scenario[Figures]], ...]] = (
    LookupScenario,
    LiarsScenario,
    SybilScenario,
    OneBadNodeScenario,
    FloodScenario,
    ChurnScenario,
    NatTimersScenario,
    NatTableScenario,
    CascadeScenario,
    MovingScenario,
)
_TYPES: Final = {
    bool: click.BOOL,
    int: click.INT,
    float: click.FLOAT,
    str: click.STRING,
}


@click.group()
def main() -> None:
    """Simulations: the node's own code, on a virtual network and a virtual clock.

    The same options give the same line, digest included. The exit code is 1 when the
    scenario's bar was missed.
    """


def _command(kind: type[Scenario[Figures]]) -> click.Command:
    """A command whose options are the scenario's fields."""
    out = click.Option(["--out"], type=click.Path(path_type=pathlib.Path))
    return click.Command(
        kind.name,
        params=[*map(_option, msgspec.structs.fields(kind)), out],
        callback=lambda out, **values: _run(kind(**values), out),
        help=kind.__doc__,
    )


def _option(field: msgspec.structs.FieldInfo) -> click.Option:
    return click.Option(
        ["--" + field.name.replace("_", "-")],
        default=field.default,
        type=_TYPES[field.type],
        is_flag=field.type is bool,
        show_default=True,
    )


def _run(scenario: Scenario[Figures], out: pathlib.Path | None) -> None:
    # Almost everything made lives to the end, so looking for garbage costs a sixth of
    # the time and finds little.
    gc.set_threshold(200_000, 20, 100)
    # Nodes under attack say so; here it is known.
    logging.getLogger("opnode").setLevel(logging.ERROR)
    began_s = time.process_time()
    outcome = run(scenario)
    # Beside the outcome, because it is never twice the same.
    figures = msgspec.to_builtins(outcome) | {"cpu_s": time.process_time() - began_s}
    line = msgspec.json.encode(figures).decode()
    click.echo(line)
    if out is not None:
        with out.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    if not outcome.figures.met:
        sys.exit(1)


for _kind in SCENARIOS:
    main.add_command(_command(_kind))
main.add_command(natlab)


if __name__ == "__main__":
    main()
