"""A directory of results survives whoever is interrupted while writing."""

import polars
import pytest

from opnode.core.errors import ConfigError
from simulations.results import ResultsDirectory, read_results, run_key
from simulations.run_context import Run
from simulations.runs import run
from tests.unit.simulations.sample import SampleScenario


def keep(path, **parameters):
    scenario = SampleScenario(**parameters)
    context = Run(scenario.seed)
    outcome = run(scenario, context)
    ResultsDirectory(path).add(outcome, context.series)
    return outcome


def test_a_line_is_read_as_it_was_written_with_its_series(tmp_path):
    outcome = keep(tmp_path / "new", nodes=5)
    results, broken = read_results(tmp_path / "new")
    assert broken == []
    (result,) = results
    assert result.figures == {"met": True, "total": outcome.figures.total}
    assert result.parameters == outcome.parameters
    table = polars.read_parquet(tmp_path / "new" / result.series["drawn"])
    assert table.columns == ["t_s", "value"]
    assert table.height == 5


def test_half_a_line_is_told_and_costs_no_other(tmp_path):
    keep(tmp_path)
    lines = tmp_path / "results.jsonl"
    whole = lines.read_bytes()
    lines.write_bytes(whole + whole[: len(whole) // 2])
    keep(tmp_path, seed=2)
    results, broken = read_results(tmp_path)
    assert [result.seed for result in results] == [1, 2]
    assert len(broken) == 1
    assert "line 2" in broken[0]


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--out"):
        ResultsDirectory(tmp_path / "file")


def test_a_directory_without_results_is_named(tmp_path):
    with pytest.raises(ConfigError, match="DIR"):
        read_results(tmp_path)


def test_runs_of_the_same_parameters_and_commit_have_the_same_name():
    one, two = run(SampleScenario()), run(SampleScenario())
    assert run_key(one) == run_key(two)
    assert run_key(run(SampleScenario(seed=2))) != run_key(one)
