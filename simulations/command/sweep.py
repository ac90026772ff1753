"""``python -m simulations sweep SCENARIO``: all combinations, for many seeds.

Owns the words. Refuses to know how runs are handed out.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import click
import msgspec

from opnode.core.errors import ConfigError
from simulations.command.run import options_of
from simulations.command.scenario_group import ScenarioGroup
from simulations.parameters import AnyScenario, build
from simulations.results import Result, ResultsDirectory, read_results
from simulations.run_context import Cell
from simulations.runs import Status
from simulations.sweep.cluster import Crew, check_address, foreign_crew, local_crew
from simulations.sweep.code import Code
from simulations.sweep.conductor import Conductor
from simulations.sweep.errors import ClusterLost, CodeDiffers
from simulations.sweep.grid import GridConfig, axis, combinations, seeds
from simulations.sweep.progress import shown_sweep
from simulations.sweep.resume import split

_MISSED: Final = 1
_INTERRUPTED: Final = 130
_PATIENCE_S: Final = 60.0
"""A batch system may need so long to start what it has room for."""
_MOST_WORKERS: Final = 1024
_SHOWN_ERRORS: Final = 5


_SINGLE: Final = ("seeds", "repeat", "workers", "cluster")
"""Options of a sweep that are given once."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says beside the scenario's own parameters."""

    vary: tuple[str, ...]
    seeds: str | None
    repeat: int | None
    directory: Path
    workers: int | None
    cluster: str | None


class _Scenarios(ScenarioGroup):
    def command_for(self, kind: type[AnyScenario]) -> click.Command:
        return _command(kind)


@click.group(cls=_Scenarios, subcommand_metavar="SCENARIO [OPTIONS]")
def sweep() -> None:
    """Run every combination of values, for many seeds, as often as there are cores.

    Each run is the one that `run` makes with the same options, in a process of its own.
    What is in DIR already is not run again, so after Ctrl-C, or anything worse, the
    same command goes on. The exit code is 1 when a run failed or missed its scenario's
    bar, 2 when the words were wrong or the cluster is lost, 130 after Ctrl-C.
    """


def _command(kind: type[AnyScenario]) -> click.Command:
    options = _options()
    taken = {"--seed", *(name for option in options for name in option.opts)}
    # A parameter with the name of one of ours can still be given by --vary.
    own = [one for one in options_of(kind) if taken.isdisjoint(one.opts)]
    return click.Command(
        kind.name,
        params=[*options, *own],
        callback=partial(_sweep, kind),
        help=f"{kind.question}\n\nExpected: {kind.expected}",
    )


def _options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--vary", "asked_vary"],
            multiple=True,
            metavar="NAME=A,B,C",
            help="Values of a parameter, or FIRST..LAST[..STEP]; may be given again for"
            " others. Where values have commas, put semicolons between them.",
        ),
        click.Option(
            ["--seeds", "asked_seeds"],
            metavar="1,2,3",
            help="Or 1..20. Every combination with each.",
        ),
        click.Option(
            ["--repeat", "asked_repeat"],
            type=click.IntRange(1, GridConfig().most_runs),
            metavar="N",
            help="The same as --seeds 1..N.",
        ),
        click.Option(
            ["--out", "asked_out"],
            type=click.Path(path_type=Path),
            metavar="DIR",
            required=True,
            help="Where results are kept, and looked for.",
        ),
        click.Option(
            ["--workers", "asked_workers"],
            type=click.IntRange(1, _MOST_WORKERS),
            metavar="N",
            help="Runs at once on this machine; default: its cores.",
        ),
        click.Option(
            ["--cluster", "asked_cluster"],
            metavar="tcp://HOST:PORT",
            help="The scheduler of a dask.distributed cluster, tls:// too.",
        ),
    ]


def _sweep(
    kind: type[AnyScenario],
    /,
    asked_vary: tuple[str, ...],
    asked_out: Path,
    **rest: Cell | None,
) -> None:
    said = {name: rest.pop(f"asked_{name}") for name in _SINGLE}
    asked = msgspec.convert(said | {"vary": asked_vary, "directory": asked_out}, Asked)
    fixed = {name: value for name, value in rest.items() if value not in (None, False)}
    scenarios = _scenarios(kind, asked, fixed)
    if asked.cluster is not None:
        check_address(asked.cluster)
        if asked.workers is not None:
            raise ConfigError("--workers", "--cluster too", "one of them")
    _conduct(kind.name, scenarios, asked)


def _scenarios(
    kind: type[AnyScenario], asked: Asked, fixed: dict[str, Cell]
) -> list[AnyScenario]:
    """All that are asked for, each of them possible."""
    config = GridConfig()
    if asked.seeds is not None and asked.repeat is not None:
        raise ConfigError("--repeat", "--seeds too", "one of them")
    if not asked.vary and asked.seeds is None and asked.repeat is None:
        raise ConfigError("--vary", "nothing", "NAME=VALUE,VALUE,... or several seeds")
    axes = [axis(text, config) for text in asked.vary]
    for one in axes:
        if one.name == "seed":
            raise ConfigError("--vary", "seed", "--seeds for those")
        if one.name in fixed:
            option = "--" + one.name.replace("_", "-")
            raise ConfigError(option, "--vary of it too", "one of them")
    some = seeds(asked.seeds or f"1..{asked.repeat or 1}", config)
    return list(
        dict.fromkeys(
            build(kind, {**fixed, **values, "seed": seed})
            for values, seed in combinations(axes, some, config)
        )
    )


def _conduct(name: str, scenarios: Sequence[AnyScenario], asked: Asked) -> None:
    """Run what is not there yet, and say what came of it."""
    results = ResultsDirectory(asked.directory)
    module = type(scenarios[0]).__module__
    code = Code.here(module)
    before = read_results(asked.directory)
    for broken in before.broken:
        click.echo(f"skipped: {broken}", err=True)
    there, todo = split(scenarios, before.results, code)
    tally = _Tally(len(scenarios), there)
    if todo:
        try:
            with _crew(asked, module) as crew, shown_sweep(name, len(todo)) as advance:

                def over(result: Result) -> None:
                    tally.add(result)
                    advance(len(tally.errors))

                Conductor(crew, results, code).conduct(todo, over)
        except KeyboardInterrupt:
            click.echo(f"interrupted: {tally.progress}", err=True)
            sys.exit(_INTERRUPTED)
        except (ClusterLost, CodeDiffers) as error:
            raise type(error)(f"{error}; {tally.progress}") from None
    _conclude(tally, asked.directory)


@contextmanager
def _crew(asked: Asked, module: str) -> Iterator[Crew]:
    if asked.cluster is not None:
        with foreign_crew(asked.cluster, module, _PATIENCE_S) as crew:
            yield crew
    else:
        with local_crew(asked.workers or os.cpu_count() or 1) as crew:
            yield crew


class _Tally:
    """Counts what came of the runs."""

    def __init__(self, runs: int, before: Sequence[Result]) -> None:
        self.runs = runs
        self.before = len(before)
        self.complete = 0
        self.missed = sum(map(_missed, before))
        self.errors: list[str] = []

    def add(self, result: Result) -> None:
        """Count one that is over."""
        if result.status is not Status.COMPLETE:
            self.errors.append(f"{result.error}; to repeat it: {result.command}")
            return
        self.complete += 1
        self.missed += _missed(result)

    @property
    def progress(self) -> str:
        """How far it is, for whoever wants to go on."""
        done = self.before + self.complete
        return f"{done} of {self.runs} done; the same command goes on"


def _missed(result: Result) -> bool:
    return (result.figures or {}).get("met") is False


def _conclude(tally: _Tally, directory: Path) -> None:
    for error in tally.errors[:_SHOWN_ERRORS]:
        click.echo(f"failed: {error}", err=True)
    if len(tally.errors) > _SHOWN_ERRORS:
        more = len(tally.errors) - _SHOWN_ERRORS
        click.echo(f"failed: {more} more, see {directory}/results.jsonl", err=True)
    parts = [f"{tally.complete} complete"] if tally.complete else []
    if tally.before:
        parts.append(f"{tally.before} there before")
    if tally.errors:
        parts.append(f"{len(tally.errors)} failed")
    if tally.missed:
        parts.append(f"{tally.missed} missed the bar")
    click.echo(f"{tally.runs} runs: {', '.join(parts)}; in {directory}/results.jsonl")
    click.echo(f"Figures and a report: python -m simulations plot {directory}")
    if tally.errors or tally.missed:
        sys.exit(_MISSED)
