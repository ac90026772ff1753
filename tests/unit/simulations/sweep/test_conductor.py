"""What is handed out comes back as a line each, whatever the workers do."""

from concurrent.futures import CancelledError

import msgspec
import pytest
from distributed import KilledWorker

from simulations.results import ResultsDirectory, read_results
from simulations.runs import Status
from simulations.sweep.child import answer
from simulations.sweep.cluster import Crew
from simulations.sweep.code import Code
from simulations.sweep.conductor import Conductor, ConductorConfig
from simulations.sweep.errors import ClusterLost, CodeDiffers, ProcessLost
from simulations.sweep.job import Job
from simulations.sweep.task import perform
from tests.unit.simulations.sample import SampleScenario

CODE = Code.here(SampleScenario.__module__)


class FakeFuture:
    def __init__(self, outcome):
        self.outcome = outcome

    def add_done_callback(self, over):
        if self.outcome is not None:
            over(self)

    def result(self):
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def release(self):
        pass


class FakeClient:
    """A cluster that answers at once, or as it is told for a seed."""

    def __init__(self, told=None):
        self.told = told or {}
        self.status = "running"
        self.workers = {"tcp://one": {}}
        self.out = 0
        self.most_out = 0
        self.cancelled = []

    def submit(self, task, sent, **how):
        assert task is perform
        assert how["retries"] == ConductorConfig().retries
        self.out += 1
        self.most_out = max(self.most_out, self.out)
        job = msgspec.json.decode(sent, type=Job)
        seed = job.parameters["seed"]
        if seed in self.told:
            return FakeFuture(self.told[seed])
        return FakeFuture(msgspec.msgpack.encode(answer(job)))

    def scheduler_info(self):
        return {"workers": self.workers}

    def cancel(self, futures, **how):
        assert how["force"]
        self.cancelled = futures


@pytest.fixture
def conduct(tmp_path):
    def conduct(client, seeds=(1, 2, 3), code=CODE, **config):
        def over(result):
            client.out -= 1

        conductor = Conductor(
            Crew(client, "here"),
            ResultsDirectory(tmp_path),
            code,
            ConductorConfig(look_s=0.001, **config),
        )
        asked = [SampleScenario(seed=seed) for seed in seeds]
        try:
            conductor.conduct(asked, over)
        finally:
            conduct.kept = {r.seed: r for r in read_results(tmp_path).results}
        return conduct.kept

    return conduct


def test_every_run_becomes_a_line(conduct):
    assert [kept.status for kept in conduct(FakeClient()).values()] == ["complete"] * 3


def test_no_more_are_out_than_the_window_holds(conduct):
    client = FakeClient()
    assert len(conduct(client, range(20), window=4)) == 20
    assert client.most_out == 4


def test_a_run_that_is_lost_for_good_is_a_failed_line_with_its_reason(conduct):
    kept = conduct(FakeClient({2: ProcessLost("killed")}))
    assert kept[2].status is Status.FAILED
    assert kept[2].error == "killed"
    assert kept[2].figures is None
    assert kept[2].parameters["nodes"] == 10
    assert kept[3].status is Status.COMPLETE


def test_a_run_whose_workers_are_always_lost_is_a_failed_line(conduct):
    kept = conduct(FakeClient({2: KilledWorker("task", None, 3)}))
    assert kept[2].error == "its worker was lost 4 times"


def test_other_code_ends_the_sweep(conduct):
    other = msgspec.structs.replace(CODE, sources="others")
    with pytest.raises(CodeDiffers, match="instead of others"):
        conduct(FakeClient(), code=other)
    assert conduct.kept == {}


def test_a_scheduler_that_forgot_its_runs_is_a_cluster_that_is_gone(conduct):
    with pytest.raises(ClusterLost, match="here is gone"):
        conduct(FakeClient({2: CancelledError()}))
    assert list(conduct.kept) == [1]


def test_a_client_that_lost_its_scheduler_ends_the_sweep(conduct):
    client = FakeClient({1: None})
    client.status = "closed"
    with pytest.raises(ClusterLost, match="here is gone"):
        conduct(client)


def test_a_cluster_that_stays_without_workers_ends_the_sweep(conduct):
    client = FakeClient({2: None})
    client.workers = {}
    with pytest.raises(ClusterLost, match="no worker for"):
        conduct(client, looks_alone=3)
    assert sorted(conduct.kept) == [1, 3]
    assert len(client.cancelled) == 1


def test_nothing_asked_is_nothing_done(conduct):
    assert conduct(FakeClient(), seeds=()) == {}


def test_a_silent_run_is_waited_for_while_there_are_workers(conduct):
    client = FakeClient({1: None})
    looks = iter([{"tcp://one": {}}] * 9 + [{}] * 3)
    client.scheduler_info = lambda: {"workers": next(looks)}
    with pytest.raises(ClusterLost):
        conduct(client, seeds=(1,), looks_alone=3)
    assert next(looks, None) is None
