"""What `plot` writes, and how it says that it cannot."""

import html.parser

import pytest
from click.testing import CliRunner

from simulations import registry
from simulations.__main__ import main
from simulations.results import ResultsDirectory
from simulations.run_context import Run
from simulations.runs import attempt
from tests.unit.simulations.sample import SampleScenario

pytestmark = pytest.mark.slow


class Page(html.parser.HTMLParser):
    """What a browser would see of a report."""

    def __init__(self, text):
        super().__init__()
        self.addresses = []
        self.words = []
        self.feed(text)

    def handle_starttag(self, _, attrs):
        self.addresses += [v for name, v in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def directory(tmp_path, monkeypatch):
    place = "tests.unit.simulations.sample:SampleScenario"
    monkeypatch.setattr(registry, "SCENARIOS", {"sample": place})
    results = ResultsDirectory(tmp_path)
    for parameters in (
        *({"nodes": nodes, "seed": seed} for nodes in (5, 10) for seed in (1, 2)),
        {"fails": "<here>"},
    ):
        scenario = SampleScenario(**parameters)
        context = Run(scenario.seed)
        results.add(attempt(scenario, context), context.series)
    return tmp_path


def plot(*words):
    return CliRunner().invoke(main, ["plot", *map(str, words)])


def test_figures_and_a_report_are_written(directory):
    done = plot(directory)
    assert done.exit_code == 0, done.output
    assert f"2 figures in {directory}" in done.stdout
    assert {path.name for path in (directory / "figures").iterdir()} == {
        "sample-total.png",
        "sample-drawn-value.png",
    }


def test_a_report_opens_from_disk_and_tells_how_to_repeat_each_run(directory):
    plot(directory)
    page = Page((directory / "report.html").read_text())
    assert all(
        one.startswith(("data:image/svg+xml;base64,", "#")) for one in page.addresses
    )
    assert "How much is the sum of what is drawn?" in page.text
    assert "How many are drawn" in page.text
    assert "python -m simulations run sample --nodes 10 --seed 2" in page.text
    assert "--fails: found <here>, expected nothing" in page.text
    assert "2 of 2" in page.text


@pytest.mark.parametrize("kind", ["svg", "pdf"])
def test_vector_formats_are_written(directory, kind):
    assert plot(directory, "--format", kind, "--y", "total").exit_code == 0
    assert (directory / "figures" / f"sample-total.{kind}").stat().st_size > 1000


def test_a_parameter_may_be_written_as_its_option(directory):
    assert plot(directory, "--x", "--nodes", "--y", "total").exit_code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--x", "none"], "--x: found none"), (["--y", "none"], "--y: found none")],
)
def test_what_cannot_be_drawn_gets_one_line(directory, words, said):
    done = plot(directory, *words)
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (directory / "report.html").exists()


def test_no_directory_gets_one_line(tmp_path):
    done = plot(tmp_path / "none")
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert "DIR: found" in done.stderr


def test_a_directory_that_cannot_be_written_to_is_named(directory):
    (directory / "figures").write_text("in the way")
    done = plot(directory)
    assert done.exit_code == 2
    assert "DIR: found" in done.stderr
    assert len(done.stderr.splitlines()) == 1
