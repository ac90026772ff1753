"""A run is seen again, step by step."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from simulations.__main__ import main
from simulations.runs import run
from simulations.scenarios.lookup import LookupScenario
from simulations.traces import write_trace


@pytest.fixture
def trace(tmp_path):
    outcome = run(LookupScenario(nodes=5, records=1, askers=2))
    write_trace(tmp_path / "trace.json", outcome)
    return str(tmp_path / "trace.json")


def test_a_replay_shows_every_datagram_and_ends_with_the_same_digest(trace):
    done = CliRunner().invoke(main, ["replay", trace])
    assert done.exit_code == 0
    assert "10.0.0.2:4000 > 10.0.0.1:4000  asks" in done.stdout
    assert "answers Stored" in done.stdout
    assert "the same: digest" in done.stdout


def test_only_the_steps_that_are_asked_for_are_shown(trace):
    words = ["replay", trace, "--about", "answers", "--last", "3", "--from-s", "1"]
    lines = CliRunner().invoke(main, words).stdout.splitlines()
    assert len(lines) == 4
    assert all("answers" in line for line in lines[:3])


def test_a_step_waits_for_its_reader(trace):
    words = ["replay", trace, "--last", "2", "--step"]
    assert CliRunner().invoke(main, words, input="\n\n").exit_code == 0


def test_a_run_that_does_not_repeat_itself_is_told(trace, tmp_path):
    changed = tmp_path / "changed.json"
    text = Path(trace).read_text(encoding="utf-8")
    changed.write_text(text.replace('"seed":1', '"seed":2'), encoding="utf-8")
    done = CliRunner().invoke(main, ["replay", str(changed)])
    assert done.exit_code == 1
    assert "not the same" in done.stderr
