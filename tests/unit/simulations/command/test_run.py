"""What the command line prints and how it ends."""

import json

import pytest
from click.testing import CliRunner

from simulations import registry
from simulations.__main__ import main


@pytest.fixture
def call(monkeypatch):
    place = "tests.unit.simulations.sample:SampleScenario"
    scenarios = {**registry.SCENARIOS, "sample": place}
    monkeypatch.setattr(registry, "SCENARIOS", scenarios)

    def run(*words):
        return CliRunner().invoke(main, words)

    return run


def test_a_run_prints_one_line_and_keeps_it(call, tmp_path):
    done = call("run", "sample", "--nodes", "5", "--out", str(tmp_path / "out"))
    assert done.exit_code == 0
    line = json.loads(done.stdout)
    assert line["parameters"]["nodes"] == 5
    kept = (tmp_path / "out" / "results.jsonl").read_text()
    assert json.loads(kept)["digest"] == line["digest"]


def test_an_interrupted_run_keeps_its_rows_and_names_the_command(call, tmp_path):
    words = ("run", "sample", "--fails", "interrupted", "--out", str(tmp_path))
    done = call(*words)
    assert done.exit_code == 130
    assert "python -m simulations run sample" in done.stderr
    (kept,) = (tmp_path / "results.jsonl").read_text().splitlines()
    assert json.loads(kept)["status"] == "interrupted"
    assert (tmp_path / json.loads(kept)["series"]["drawn"]).exists()


def test_a_run_that_fails_names_the_command_that_repeats_it(call):
    done = call("run", "sample", "--fails", "here")
    assert done.exit_code == 1
    assert "to repeat it: python -m simulations run sample" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "sampel"], "found 'sampel', expected 'sample'?"),
        (["run", "sample", "--nodes", "0"], "--nodes: found 0, expected a whole"),
        (["run", "sample", "--backend", "real"], "expected event or vector"),
        (["run", "sample", "--out", "/proc/none"], "--out: found /proc/none"),
    ],
)
def test_what_cannot_be_run_gets_one_clear_line(call, words, said):
    done = call(*words)
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_help_of_a_scenario_tells_units_and_bounds(call):
    done = call("run", "sample", "--help")
    assert "a number from 0 to 1" in " ".join(done.stdout.split())
    assert "How much is the sum" in done.stdout
