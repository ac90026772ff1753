"""A child answers with what `run` would have kept."""

import io

import msgspec
import polars

from simulations.results import Result
from simulations.runs import Status, run
from simulations.sweep.child import answer
from simulations.sweep.code import Code
from simulations.sweep.job import Job
from tests.unit.simulations.sample import SampleScenario


def test_an_answer_is_the_line_of_a_run_with_its_series():
    scenario = SampleScenario(nodes=5)
    found = answer(Job.of(scenario, Code.here(SampleScenario.__module__)))
    line = msgspec.json.decode(found.line, type=Result)
    alone = run(scenario)
    assert (line.digest, line.parameters) == (alone.digest, alone.parameters)
    assert line.figures == msgspec.to_builtins(alone.figures)
    assert polars.read_parquet(io.BytesIO(found.series["drawn"])).height == 5


def test_a_run_that_fails_is_an_answer_too():
    found = answer(
        Job.of(SampleScenario(fails="here"), Code.here(SampleScenario.__module__))
    )
    line = msgspec.json.decode(found.line, type=Result)
    assert line.status is Status.FAILED
    assert "--fails" in line.error


def test_nothing_is_run_by_other_code():
    other = msgspec.structs.replace(
        Code.here(SampleScenario.__module__), sources="others"
    )
    found = answer(Job.of(SampleScenario(), other))
    assert not found.line
    assert "instead of others" in found.differs[0]
