"""The same seed and commit come to the same, in every process and on every backend."""

import json
import os
import subprocess
import sys

import pytest

from simulations.registry import SCENARIOS, load
from tests.simulation.small_runs import SMALL

PROCESSES = 2


@pytest.fixture(scope="module")
def found():
    """What each process found; hashes of strings differ between them."""
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.simulation.small_runs"],
            env={**os.environ, "PYTHONHASHSEED": str(number + 1)},
            stdout=subprocess.PIPE,
        )
        for number in range(PROCESSES)
    ]
    outputs = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0] * PROCESSES
    return [json.loads(output) for output in outputs]


def test_every_scenario_is_among_the_small_runs_on_each_of_its_backends():
    expected = [f"{name} {one}" for name in SCENARIOS for one in load(name).backends]
    assert sorted(SMALL) == sorted(expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_two_processes_come_to_the_same_figures_and_digest(found, name):
    one, other = found
    assert one[name]["figures"] == other[name]["figures"]
    assert one[name]["digest"] == other[name]["digest"]
