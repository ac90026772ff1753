"""What the command line of a sweep takes, prints and refuses."""

import json

import pytest
from click.testing import CliRunner

from simulations import registry
from simulations.__main__ import main


@pytest.fixture
def call(monkeypatch, tmp_path):
    place = "tests.unit.simulations.sample:SampleScenario"
    scenarios = {**registry.SCENARIOS, "sample": place}
    monkeypatch.setattr(registry, "SCENARIOS", scenarios)

    def run(*words, out=tmp_path / "out"):
        words = ["sweep", *words, "--out", str(out)]
        return CliRunner().invoke(main, words)

    return run


def lines(tmp_path):
    text = (tmp_path / "out" / "results.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.slow
def test_a_sweep_runs_every_combination_once_and_then_no_more(call, tmp_path):
    words = ("sample", "--vary", "nodes=1,2", "--share", "0.25", "--repeat", "2")
    done = call(*words, "--workers", "2")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("4 runs: 4 complete; in ")
    found = lines(tmp_path)
    assert {(line["parameters"]["nodes"], line["seed"]) for line in found} == {
        (nodes, seed) for nodes in (1, 2) for seed in (1, 2)
    }
    assert {line["parameters"]["share"] for line in found} == {0.25}
    again = call(*words)
    assert again.stdout.startswith("4 runs: 4 there before; in ")
    assert lines(tmp_path) == found


@pytest.mark.slow
def test_half_a_line_of_somebody_who_was_killed_costs_only_its_own_run(call, tmp_path):
    words = ("sample", "--vary", "nodes=1,2")
    assert call(*words).exit_code == 0
    kept = tmp_path / "out" / "results.jsonl"
    first, second = kept.read_bytes().splitlines(keepends=True)
    kept.write_bytes(first + second[:-20])
    done = call(*words)
    assert done.stdout.startswith("2 runs: 1 complete, 1 there before; in ")
    assert "line 2" in done.stderr
    assert "line 2" in call(*words).stderr


@pytest.mark.slow
def test_a_run_that_fails_is_kept_told_and_run_again(call, tmp_path):
    done = call("sample", "--vary", "fails=here,there")
    assert done.exit_code == 1
    assert "to repeat it: python -m simulations run sample" in done.stderr
    assert {line["status"] for line in lines(tmp_path)} == {"failed"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sampel", "--vary", "nodes=1"], "expected 'sample'?"),
        (["sample", "--vary", "nodez=1"], "expected 'nodes'?"),
        (["sample", "--vary", "nodes=0,1"], "--nodes: found 0"),
        (["sample", "--vary", "nodes="], "--vary nodes"),
        (["sample"], "--vary: found nothing"),
        (["sample", "--vary", "nodes=1..200000"], "at most 100000"),
        (["sample", "--vary", "nodes=1", "--nodes", "2"], "--vary of it too"),
        (["sample", "--vary", "seed=1,2"], "--seeds for those"),
        (["sample", "--vary", "nodes=1,2", "--share", "1"], "somebody to be left"),
        (["sample", "--seeds", "1", "--repeat", "2"], "--seeds too"),
        (["sample", "--repeat", "2", "--cluster", "host"], "tcp://HOST:PORT"),
        (["sample", "--repeat", "2", "--cluster", "tls://h:1"], "tls.ca-file"),
        (
            ["sample", "--repeat", "2", "--cluster", "tcp://h:1", "--workers", "1"],
            "--cluster too",
        ),
    ],
)
def test_what_cannot_be_run_gets_one_line_before_anything_starts(
    call, tmp_path, words, said
):
    done = call(*words)
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_to_is_named(call):
    done = call("sample", "--repeat", "2", out="/proc/none")
    assert done.exit_code == 2
    assert "--out: found /proc/none" in done.stderr
