"""A sweep runs what is not there, and only that."""

import msgspec
import pytest

from simulations.results import Result
from simulations.runs import Status
from simulations.sweep.child import answer
from simulations.sweep.code import Code
from simulations.sweep.job import Job
from simulations.sweep.resume import split
from tests.unit.simulations.sample import SampleScenario

CODE = Code.here(SampleScenario.__module__)


@pytest.fixture(autouse=True, params=["abc", "abc+changes", ""])
def commit(request, monkeypatch):
    monkeypatch.setattr("opnode.testing.provenance.commit", lambda: request.param)
    return request.param


def kept(**parameters):
    line = answer(Job.of(SampleScenario(**parameters), CODE)).line
    return msgspec.json.decode(line, type=Result)


def test_a_complete_run_is_not_run_again():
    one, two = SampleScenario(seed=1), SampleScenario(seed=2)
    result = kept(seed=1)
    assert split([one, two], [result], CODE) == ([result], [two])


def test_a_failed_run_is_run_again():
    failed = msgspec.structs.replace(kept(), status=Status.FAILED)
    assert split([SampleScenario()], [failed], CODE).missing == [SampleScenario()]


def test_a_run_of_another_commit_is_run_again():
    old = msgspec.structs.replace(kept(), commit="older")
    assert split([SampleScenario()], [old], CODE).missing == [SampleScenario()]


def test_other_sources_count_where_no_commit_tells_them_apart(commit, monkeypatch):
    monkeypatch.setattr("simulations.sweep.resume.is_ours", bool)
    other = msgspec.structs.replace(CODE, sources="others")
    missing = split([SampleScenario()], [kept()], other).missing
    assert missing == ([] if commit == "abc" else [SampleScenario()])


def test_other_sources_count_for_a_scenario_of_ones_own():
    other = msgspec.structs.replace(CODE, sources="others")
    assert split([SampleScenario()], [kept()], other).there == []
