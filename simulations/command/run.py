"""``python -m simulations run SCENARIO``: one run, one line of JSON.

Owns the words. Refuses to know what scenarios do.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Final

import click
import msgspec

from simulations.command.progress import shown_progress
from simulations.command.scenario_group import ScenarioGroup
from simulations.parameters import AnyScenario, Parameter, build, parameters_of
from simulations.results import ResultsDirectory, run_key
from simulations.run_context import Cell, Run
from simulations.runs import Outcome, Status, attempt, prepare_process
from simulations.scenario import Figures
from simulations.traces import write_trace

_MISSED: Final = 1
_INTERRUPTED: Final = 130


class _Scenarios(ScenarioGroup):
    def command_for(self, kind: type[AnyScenario]) -> click.Command:
        return _command(kind)


@click.group(cls=_Scenarios, subcommand_metavar="SCENARIO [OPTIONS]")
def run() -> None:
    """Run a scenario once and print one JSON line.

    The same options give the same figures and digest. The exit code is 1 when the
    scenario's bar was missed or a checker saw what must never happen, 130 after Ctrl-C;
    what was found until then is kept.
    """


def options_of(kind: type[AnyScenario]) -> list[click.Parameter]:
    """An option for each parameter of a scenario; values are parsed by `build`."""
    return [_option(kind, one) for one in parameters_of(kind)]


def _command(kind: type[AnyScenario]) -> click.Command:
    out = click.Option(
        ["--out", "directory"],
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Keep the line and the time series there.",
    )
    trace = click.Option(
        ["--trace"],
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Write what `replay` takes; a run that fails leaves it in DIR/traces.",
    )
    return click.Command(
        kind.name,
        params=[*options_of(kind), out, trace],
        callback=partial(_run, kind),
        help=f"{kind.question}\n\nExpected: {kind.expected}",
    )


def _option(kind: type[AnyScenario], known: Parameter) -> click.Option:
    about = [known.about] if known.about else []
    if known.name == "backend":
        about.append("one of " + ", ".join(kind.backends))
    elif known.kind is not bool:
        unit = f" ({known.unit})" if known.unit else ""
        about.append(known.expected + unit)
    if known.drawn:
        about.append(known.drawn)
    about.append(f"default: {'none' if known.default == '' else known.default}")
    if known.kind is bool:
        return click.Option([known.option], is_flag=True, help=f"{known.about}.")
    return click.Option([known.option], metavar="VALUE", help="; ".join(about) + ".")


def _run(
    kind: type[AnyScenario],
    /,
    directory: Path | None,
    trace: Path | None,
    **given: Cell | None,
) -> None:
    values = {
        name: value for name, value in given.items() if value not in (None, False)
    }
    scenario = build(kind, values)
    results = ResultsDirectory(directory) if directory else None
    prepare_process()
    with shown_progress(scenario.name) as progress:
        context = Run(scenario.seed, progress)
        outcome = attempt(scenario, context, catch=(KeyboardInterrupt, Exception))
    click.echo(msgspec.json.encode(outcome).decode())
    if results is not None:
        results.add(outcome, context.series)
        if outcome.status is Status.FAILED:
            trace = trace or results.path / "traces" / f"{run_key(outcome)}.json"
    if trace is not None:
        write_trace(trace, outcome)
    _exit(outcome, trace)


def _exit(outcome: Outcome[Figures], trace: Path | None) -> None:
    """Say how it ended, where that is not plain, and end with the exit code of it."""
    repeat = f"python -m simulations replay {trace}" if trace else outcome.command
    if outcome.status is Status.INTERRUPTED:
        click.echo(f"interrupted; to repeat it: {outcome.command}", err=True)
        sys.exit(_INTERRUPTED)
    if outcome.status is Status.FAILED:
        click.echo(f"failed: {outcome.error}", err=True)
        click.echo(f"to repeat it: {repeat}", err=True)
        sys.exit(_MISSED)
    if outcome.figures is not None and not outcome.figures.met:
        click.echo("the bar was missed", err=True)
        sys.exit(_MISSED)
