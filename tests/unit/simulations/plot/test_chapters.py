"""A directory becomes a chapter for each scenario, with what is wrong told."""

import pytest

from opnode.core.errors import ConfigError
from simulations.plot import chapters
from simulations.plot.chapters import Wanted, read_book
from simulations.results import ResultsDirectory
from simulations.run_context import Run
from simulations.runs import attempt
from tests.unit.simulations.sample import SampleScenario


@pytest.fixture
def kept(tmp_path):
    def keep(**parameters):
        scenario = SampleScenario(**parameters)
        context = Run(scenario.seed)
        outcome = attempt(scenario, context)
        ResultsDirectory(tmp_path).add(outcome, context.series)
        return outcome

    for nodes in (5, 10):
        for seed in (1, 2, 3):
            keep(nodes=nodes, seed=seed)
    keep.directory = tmp_path
    return keep


def test_runs_that_differ_in_their_seed_are_a_group(kept):
    (chapter,) = read_book(kept.directory, Wanted()).chapters
    assert chapter.varied == ("nodes",)
    assert [(group.values, group.n, group.met) for group in chapter.groups] == [
        (("5",), 3, 3),
        (("10",), 3, 3),
    ]
    assert chapter.groups[0].figures["total"].n == 3


def test_figures_and_series_have_their_charts(kept):
    (chapter,) = read_book(kept.directory, Wanted()).chapters
    assert [chart.name for chart in chapter.charts] == [
        "sample-total",
        "sample-drawn-value",
    ]


def test_a_wanted_figure_is_the_only_one(kept):
    (chapter,) = read_book(kept.directory, Wanted(y="total", x="seed")).chapters
    (chart,) = chapter.charts
    assert chart.x.text == "seed"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted(x="total"), "--x: found total, expected one of backend"),
        (Wanted(by="none"), "--by: found none"),
        (Wanted(y="nodes"), "--y: found nodes, expected one of total"),
    ],
)
def test_what_nobody_measured_is_refused(kept, wanted, said):
    with pytest.raises(ConfigError, match=said):
        read_book(kept.directory, wanted)


def test_failed_and_interrupted_runs_are_shown_and_not_drawn(kept):
    kept(nodes=20, fails="interrupted")
    kept(nodes=20, fails="here")
    (chapter,) = read_book(kept.directory, Wanted()).chapters
    assert [one.status for one in chapter.unfinished] == ["interrupted", "failed"]
    assert len(chapter.rows) == 6


def test_half_a_line_is_noted_and_costs_nothing_else(kept):
    lines = kept.directory / "results.jsonl"
    lines.write_bytes(lines.read_bytes() + b'{"scenario": "sa')
    book = read_book(kept.directory, Wanted())
    assert len(book.chapters[0].rows) == 6
    assert "line 7" in book.notes[0]


def test_a_series_that_is_gone_is_noted(kept):
    next(iter((kept.directory / "series").iterdir())).unlink()
    book = read_book(kept.directory, Wanted())
    assert len(book.notes) == 1
    assert "series/drawn-" in book.notes[0]
    assert len(book.chapters[0].charts) == 2


def test_a_scenario_that_is_not_known_any_more_is_drawn_by_its_names(kept):
    (chapter,) = read_book(kept.directory, Wanted()).chapters
    assert chapter.question == ""
    assert chapter.charts[0].x.text == "nodes"


def test_more_charts_than_anybody_looks_at_are_left_out_and_told(kept, monkeypatch):
    monkeypatch.setattr(chapters, "MOST_CHARTS", 1)
    book = read_book(kept.directory, Wanted())
    assert len(book.chapters[0].charts) == 1
    assert "1 more charts" in book.notes[0]


def test_a_directory_without_runs_is_refused(tmp_path):
    ResultsDirectory(tmp_path)
    with pytest.raises(ConfigError, match="no results"):
        read_book(tmp_path, Wanted())
