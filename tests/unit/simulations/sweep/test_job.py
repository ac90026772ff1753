"""A job arrives as the scenario that was sent."""

import msgspec
import pytest

from opnode.core.errors import ConfigError
from simulations.sweep.code import Code
from simulations.sweep.job import Answer, Job
from tests.unit.simulations.sample import SampleScenario

CODE = Code(sources="", python="", libraries={})


def test_a_scenario_is_the_same_after_its_way():
    scenario = SampleScenario(nodes=7, share=0.25, loud=True, seed=3)
    sent = msgspec.json.encode(Job.of(scenario, CODE))
    assert msgspec.json.decode(sent, type=Job).scenario() == scenario


def test_parameters_that_a_class_does_not_take_are_refused():
    job = Job.of(SampleScenario(), CODE)
    old = msgspec.structs.replace(job, parameters=job.parameters | {"gone": 1})
    with pytest.raises(ConfigError, match="gone"):
        old.scenario()


def test_a_series_that_would_leave_its_folder_is_refused():
    sent = msgspec.msgpack.encode(Answer(series={"../../x": b""}))
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(sent, type=Answer)
