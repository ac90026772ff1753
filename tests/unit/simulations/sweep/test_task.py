"""A worker's process answers, or says how it ended, and never outlives its use."""

import msgspec
import psutil
import pytest

from simulations.results import Result
from simulations.sweep.code import Code
from simulations.sweep.errors import ProcessLost, RunAbandoned
from simulations.sweep.job import Answer, Job
from simulations.sweep.task import attend
from tests.unit.simulations.sample import SampleScenario

pytestmark = pytest.mark.slow


def never():
    return False


def test_a_process_answers_with_its_run():
    job = msgspec.json.encode(
        Job.of(SampleScenario(nodes=3), Code.here(SampleScenario.__module__))
    )
    answer = msgspec.msgpack.decode(attend(job, never), type=Answer)
    line = msgspec.json.decode(answer.line, type=Result)
    assert line.parameters["nodes"] == 3
    assert line.peak_rss_MB > 0


def test_a_process_that_breaks_is_told_with_its_last_words():
    with pytest.raises(ProcessLost, match=r"ended with code 1: msgspec\.DecodeError"):
        attend(b"no job", never)


def test_a_process_that_nobody_waits_for_is_ended():
    job = msgspec.json.encode(
        Job.of(SampleScenario(), Code.here(SampleScenario.__module__))
    )
    with pytest.raises(RunAbandoned):
        attend(job, lambda: True)
    assert psutil.Process().children() == []
