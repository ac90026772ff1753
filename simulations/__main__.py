"""``python -m simulations SCENARIO``: run one and print one JSON line."""

import pathlib
import sys

import click
import msgspec

from simulations.scenarios.lookup import LookupScenario, run_lookup


@click.group()
def main() -> None:
    """Simulations: the node's own code, on a virtual network and a virtual clock.

    The same options give the same line, digest included.
    """


@main.command()
@click.option("--nodes", default=50, show_default=True, type=click.IntRange(2, 20_000))
@click.option("--seed", default=1, show_default=True)
@click.option(
    "--records", default=50, show_default=True, type=click.IntRange(1, 10_000)
)
@click.option(
    "--loss",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Probability that a datagram is lost, after everybody has joined.",
)
@click.option(
    "--dead",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 0.9),
    help="Share of nodes that die between the puts and the gets.",
)
@click.option(
    "--out", type=click.Path(path_type=pathlib.Path), help="Append there too."
)
def lookup(
    nodes: int,
    seed: int,
    records: int,
    loss: float,
    dead: float,
    out: pathlib.Path | None,
) -> None:
    """Put records, get them, and compare the closest sets with the true ones."""
    scenario = LookupScenario(
        nodes=nodes, seed=seed, records=records, loss=loss, dead=dead
    )
    result = run_lookup(scenario)
    line = msgspec.json.encode(result).decode()
    click.echo(line)
    if out is not None:
        with out.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    if result.success_rate < 1 and not (loss or dead):
        sys.exit(1)


if __name__ == "__main__":
    main()
