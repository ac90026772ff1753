"""Sweeps on real processes: whatever is lost on the way, the results are the same."""

import contextlib
import datetime
import json
import os
import queue
import signal
import subprocess
import sys
import threading

import msgspec
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from simulations.parameters import values_of
from simulations.results import ResultsDirectory, read_results
from simulations.runs import Status, run
from simulations.sweep.cluster import foreign_crew, local_crew
from simulations.sweep.code import ROOT, Code
from simulations.sweep.conductor import Conductor
from simulations.sweep.errors import ClusterLost, CodeDiffers
from tests.simulation.lost_once import LostOnceScenario

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PATIENCE_S = 60
MODULE = LostOnceScenario.__module__


class Cluster:
    """A scheduler and workers, started as their users start them."""

    def __init__(self, stack, options=()):
        self.stack = stack
        self.options = options
        self.scheduler, self.said = self.start(
            "dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"
        )
        self.address = self.hear("Scheduler at:").split()[-1]

    def start(self, module, *words, path=ROOT):
        process = subprocess.Popen(  # noqa: S603 - our own words
            [sys.executable, "-m", f"distributed.cli.{module}", *words, *self.options],
            cwd=path,
            env=os.environ | {"PYTHONPATH": str(path)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        said = queue.SimpleQueue()

        def listen():
            for line in process.stderr:
                said.put(line)

        listener = threading.Thread(target=listen)
        listener.start()
        self.stack.callback(process.stderr.close)
        self.stack.callback(listener.join)
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return process, said

    def hear(self, words):
        while words not in (line := self.said.get(timeout=PATIENCE_S)):
            pass
        return line

    def work(self, **options):
        words = ("--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard")
        process, _ = self.start(
            "dask_worker", self.address, *words, "--no-nanny", **options
        )
        self.hear("Register worker")
        return process


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


def scenarios(tmp_path, seeds, **parameters):
    folder = str(tmp_path)
    return [LostOnceScenario(seed=s, folder=folder, **parameters) for s in seeds]


def ignore(result):
    pass


def conduct(crew, directory, asked, over=ignore):
    Conductor(crew, ResultsDirectory(directory), Code.here(MODULE)).conduct(asked, over)
    return by_seed(directory)


def by_seed(directory):
    results, broken = read_results(directory)
    assert broken == []
    assert len({result.seed for result in results}) == len(results)
    return {result.seed: result for result in results}


def assert_as_alone(found, asked):
    for scenario in asked:
        result = found[scenario.seed]
        # Nothing kills the process of this test, whatever fails.
        alone = run(msgspec.structs.replace(scenario, times=0))
        assert result.status is Status.COMPLETE, result.error
        assert result.digest == alone.digest
        assert result.figures == {"met": True, "drawn": alone.figures.drawn}
        assert result.parameters == values_of(scenario)


def test_two_workers_find_what_one_process_finds_though_one_is_killed(stack, tmp_path):
    cluster = Cluster(stack)
    workers = {worker.pid: worker for worker in (cluster.work(), cluster.work())}
    os.mkfifo(tmp_path / "worker")

    runs = []

    def kill():
        worker, run = map(int, (tmp_path / "worker").read_text().split())
        runs.append(psutil.Process(run))
        workers[worker].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    asked = scenarios(tmp_path, range(1, 7), lost=3, times=1, waits=True)
    with foreign_crew(cluster.address, MODULE, PATIENCE_S) as crew:
        found = conduct(crew, tmp_path / "out", asked)
    killer.join()
    assert [worker.poll() for worker in workers.values()].count(-signal.SIGKILL) == 1
    assert_as_alone(found, asked)
    # The run that was in the middle has ended with its worker.
    assert psutil.wait_procs(runs, PATIENCE_S) == (runs, [])


def test_a_run_whose_process_is_killed_is_tried_again(tmp_path):
    asked = scenarios(tmp_path, (1, 2, 3), lost=2, times=2)
    with local_crew(2) as crew:
        found = conduct(crew, tmp_path / "out", asked)
    assert_as_alone(found, asked)


def test_a_run_that_is_always_lost_is_a_failed_line_and_costs_no_other(tmp_path):
    asked = scenarios(tmp_path, (1, 2, 3), lost=2, times=10)
    with local_crew(2) as crew:
        found = conduct(crew, tmp_path / "out", asked)
    assert found[2].status is Status.FAILED
    assert "SIGKILL" in found[2].error
    assert len(list(tmp_path.glob("try-*"))) == 3
    assert_as_alone(found, [asked[0], asked[2]])


def test_nothing_of_a_local_sweep_listens_beyond_loopback(tmp_path):
    with local_crew(1):
        listening = {
            connection.laddr.ip
            for connection in psutil.Process().net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
    assert listening <= {"127.0.0.1"}


def test_an_interrupted_sweep_ends_its_runs_and_keeps_what_was_over(tmp_path):
    os.mkfifo(tmp_path / "worker")
    reader = threading.Thread(target=(tmp_path / "worker").read_text)
    reader.start()
    asked = scenarios(tmp_path, (1, 2, 3), lost=2, times=1, waits=True)

    def interrupt(result):
        reader.join()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), local_crew(2) as crew:
        conduct(crew, tmp_path / "out", asked, interrupt)
    assert len(by_seed(tmp_path / "out")) == 1
    assert psutil.Process().children(recursive=True) == []


def test_workers_with_other_code_are_refused(stack, tmp_path):
    (tmp_path / "simulations").mkdir()
    (tmp_path / "simulations" / "__init__.py").touch()
    cluster = Cluster(stack)
    cluster.work(path=tmp_path)
    with (
        pytest.raises(CodeDiffers, match=r"worker tcp://\S+ cannot run simulations"),
        foreign_crew(cluster.address, MODULE, PATIENCE_S),
    ):
        pass


def test_a_lost_scheduler_ends_the_sweep_with_its_address(stack, tmp_path):
    cluster = Cluster(stack)
    cluster.work()

    def lose(result):
        cluster.scheduler.kill()

    asked = scenarios(tmp_path, range(1, 20))
    with (
        pytest.raises(ClusterLost, match=f"{cluster.address} is gone"),
        foreign_crew(cluster.address, MODULE, PATIENCE_S) as crew,
    ):
        conduct(crew, tmp_path / "out", asked, lose)
    assert by_seed(tmp_path / "out")


def test_a_cluster_that_is_not_there_is_named():
    with (
        pytest.raises(
            ClusterLost, match=r"no scheduler answers at tcp://127\.0\.0\.1:1"
        ),
        foreign_crew("tcp://127.0.0.1:1", MODULE, 0.5),
    ):
        pass


def test_a_scheduler_without_workers_is_named(stack):
    cluster = Cluster(stack)
    with (
        pytest.raises(ClusterLost, match="no worker came"),
        foreign_crew(cluster.address, MODULE, 3),
    ):
        pass


def credentials(tmp_path):
    """A key and the certificate that vouches for itself: all parts trust it alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sweep")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "cert.pem").write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
    )
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return tmp_path / "cert.pem", tmp_path / "key.pem"


def test_the_command_runs_on_a_cluster_over_tls(stack, tmp_path):
    certificate, key = credentials(tmp_path)
    files = {"CA_FILE": certificate, "CLIENT__CERT": certificate, "CLIENT__KEY": key}
    options = ("--tls-ca-file", certificate, "--tls-cert", certificate, "--tls-key")
    cluster = Cluster(stack, (*map(str, options), str(key), "--protocol", "tls"))
    cluster.work()
    settings = {
        f"DASK_DISTRIBUTED__COMM__TLS__{name}": str(file)
        for name, file in files.items()
    }
    words = ["lookup", "--vary", "nodes=5,6", "--records", "2", "--gets", "2"]
    place = ["--cluster", cluster.address, "--out", str(tmp_path / "out")]
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-m", "simulations", "sweep", *words, *place],
        env=os.environ | settings,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert cluster.address.startswith("tls://")
    assert done.returncode == 0, done.stderr
    assert "2 runs: 2 complete" in done.stdout
    lines = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    assert {json.loads(line)["parameters"]["nodes"] for line in lines} == {5, 6}


def test_ctrl_c_ends_the_command_at_once_and_the_same_command_goes_on(tmp_path):
    out = tmp_path / "out"
    # The second of them takes many minutes.
    words = ["sweep", "lookup", "--vary", "nodes=5,5000", "--records", "2", "--gets"]
    process = subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-m", "simulations", *words, "2", "--out", str(out)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (out / "results.jsonl").exists() or not read_results(out).results:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
            break
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert said == "interrupted: 1 of 2 done; the same command goes on\n"
    assert list(by_seed(out)) == [1]
