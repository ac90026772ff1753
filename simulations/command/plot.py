"""``python -m simulations plot DIR``: figures and a report of what was found.

Owns the words and the files. Refuses to know what is drawn.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from opnode.core.errors import ConfigError
from simulations.plot.chapters import Wanted, read_book
from simulations.plot.chart import Chart
from simulations.plot.draw import Format, drawn
from simulations.plot.report import report

_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._=-]+")
_NAME_LENGTH: Final = 120


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--x", metavar="NAME", help="The parameter on the horizontal axis.")
@click.option("--y", metavar="NAME", help="Only this figure; all by default.")
@click.option("--by", metavar="NAME", help="The parameter that becomes lines.")
@click.option(
    "--format",
    "kind",
    type=click.Choice([kind.value for kind in Format]),
    default=Format.PNG.value,
    show_default=True,
    help="Of the files in DIR/figures.",
)
def plot(
    directory: Path, x: str | None, y: str | None, by: str | None, kind: str
) -> None:
    """Draw what runs have left in DIR, and write DIR/report.html.

    By default there is a figure for each number that was found: the numeric parameter
    with the most values goes to the horizontal axis, the others become lines; and one
    for each time series. Lines are medians over the seeds, bands hold the middle 80 %.
    """
    book = read_book(directory, Wanted(_name(x), y, _name(by)))
    charts = [chart for chapter in book.chapters for chart in chapter.charts]
    try:
        page = report(directory.resolve().name, book)
        _write(directory, charts, Format(kind))
        (directory / "report.html").write_text(page, encoding="utf-8")
    except OSError as error:
        found = f"{error.filename} ({error.strerror})"
        raise ConfigError("DIR", found, "a directory to write to") from None
    for note in book.notes:
        click.echo(f"left out: {note}", err=True)
    if charts:
        many = "figure" if len(charts) == 1 else "figures"
        click.echo(f"{len(charts)} {many} in {directory / 'figures'}")
    else:
        click.echo("no figures: there is one run only, without time series")
    click.echo(f"report: {directory / 'report.html'}")


def _name(option: str | None) -> str | None:
    """A parameter may be written as its option is."""
    return option.lstrip("-").replace("-", "_") if option else option


def _write(directory: Path, charts: Sequence[Chart], kind: Format) -> None:
    folder = directory / "figures"
    folder.mkdir(exist_ok=True)
    for chart in charts:
        stem = _NOT_IN_NAMES.sub("_", chart.name)[:_NAME_LENGTH]
        (folder / f"{stem}.{kind}").write_bytes(drawn(chart, kind))
