"""``python -m simulations list``: every scenario and its question."""

import click
from rich.console import Console
from rich.table import Table

from simulations.registry import SCENARIOS, load


@click.command("list")
def listing() -> None:
    """Show all scenarios: what they ask, and which backends answer."""
    table = Table(box=None, pad_edge=False)
    for column in ("scenario", "question", "backends"):
        table.add_column(column, no_wrap=column == "scenario")
    for name in SCENARIOS:
        kind = load(name)
        table.add_row(name, kind.question, ", ".join(kind.backends))
    Console().print(table)
    click.echo("\nWhat one takes: python -m simulations run SCENARIO --help")
