"""What it takes to see a run again."""

import pytest

from opnode.core.errors import ConfigError
from simulations import registry
from simulations.runs import attempt, run
from simulations.traces import MAX_TRACE, read_trace, write_trace
from tests.unit.simulations.sample import SampleScenario


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    place = "tests.unit.simulations.sample:SampleScenario"
    monkeypatch.setattr(registry, "SCENARIOS", {"sample": place})


@pytest.mark.parametrize("fails", ["", "here"])
def test_a_trace_makes_the_run_again_and_finds_it_the_same(tmp_path, fails):
    first = attempt(SampleScenario(seed=5, fails=fails))
    write_trace(tmp_path / "new" / "trace.json", first)
    trace = read_trace(tmp_path / "new" / "trace.json")
    assert trace.build() == SampleScenario(seed=5, fails=fails)
    assert trace.difference(attempt(trace.build())) == ""


def test_a_run_that_came_to_something_else_is_told_with_its_commit(tmp_path):
    write_trace(tmp_path / "trace.json", run(SampleScenario(seed=5)))
    trace = read_trace(tmp_path / "trace.json")
    assert "digest" in trace.difference(run(SampleScenario(seed=6)))
    assert "found here" in trace.difference(attempt(SampleScenario(fails="here")))


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"scenario": 5}', b"\xff", b"[" * (2 * MAX_TRACE)]
)
def test_a_file_that_is_no_trace_is_named(tmp_path, content):
    path = tmp_path / "trace.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"trace\.json"):
        read_trace(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_trace(tmp_path / "none")
