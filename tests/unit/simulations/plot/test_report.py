"""A report tells where its runs come from, and which of them came to nothing."""

import msgspec
import pytest

from simulations.plot import report as module
from simulations.plot.chapters import Book, Chapter
from simulations.plot.report import report
from simulations.plot.rows import rows
from simulations.results import Result
from simulations.runs import Status, run
from tests.unit.simulations.sample import SampleScenario


def result(seed=1, **changes):
    outcome = run(SampleScenario(seed=seed))
    line = msgspec.json.decode(msgspec.json.encode(outcome), type=Result)
    return msgspec.structs.replace(line, **changes)


@pytest.fixture
def told():
    def told(*results, notes=()):
        complete = rows(results)
        chapter = Chapter(
            scenario="sample",
            question="What <if>?",
            expected="Much.",
            parameters=(),
            rows=complete,
            unfinished=[one for one in results if one.status != "complete"],
            varied=(),
            groups=[],
            charts=[],
        )
        return report("out", Book([chapter], list(notes)))

    return told


def test_runs_of_changed_files_are_marked(told):
    assert "differ from their commit" in told(result(commit="abc+changes"))
    assert "differ from their commit" not in told(result(commit="abc"))


def test_versions_that_differ_between_runs_are_both_told(told):
    page = told(result(versions={"numpy": "2.0"}), result(2, versions={"numpy": "2.1"}))
    assert "2.0, 2.1" in page


def test_a_run_that_came_to_nothing_has_its_reason_and_command(told):
    lost = result(status=Status.FAILED, error="a <b> c", figures=None)
    page = told(lost)
    assert "a &lt;b&gt; c" in page
    assert "python -m simulations run sample" in page


def test_what_was_left_out_is_told(told):
    assert "Left out: half a line" in told(result(), notes=["half a line"])


def test_more_runs_than_a_page_holds_are_counted(told, monkeypatch):
    monkeypatch.setattr(module, "MOST_RUNS", 2)
    page = told(*(result(seed) for seed in range(5)))
    assert "and 3 more in results.jsonl" in page
    assert "--seed 1" in page
    assert "--seed 4" not in page
