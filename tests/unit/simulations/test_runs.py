"""A run leaves a line, however it ends."""

import numpy as np
import pytest

from opnode.core.errors import ConfigError
from simulations.run_context import Run
from simulations.runs import Status, attempt, run
from simulations.scenario import Figures, Measured
from tests.unit.simulations.sample import SampleScenario


def test_a_run_says_where_it_comes_from_and_repeats_itself():
    scenario = SampleScenario(seed=3)
    first, again = run(scenario), run(scenario)
    assert first.status is Status.COMPLETE
    assert first.seed == first.parameters["seed"] == 3
    assert first.command == "python -m simulations run sample --nodes 10 --seed 3"
    assert {"python", "numpy", "opnode"} <= set(first.versions)
    assert (first.figures, first.digest) == (again.figures, again.digest)
    assert run(SampleScenario(seed=4)).digest != first.digest


def test_an_interrupted_run_keeps_what_it_had_until_then():
    context = Run(1)
    outcome = attempt(SampleScenario(fails="interrupted"), context)
    assert outcome.status is Status.INTERRUPTED
    assert outcome.figures is None
    assert len(context.series["drawn"]) == 1


def test_a_run_that_fails_says_why():
    outcome = attempt(SampleScenario(fails="always"))
    assert outcome.status is Status.FAILED
    assert "found always" in outcome.error


def test_who_asks_for_a_run_hears_of_its_error():
    with pytest.raises(ConfigError):
        run(SampleScenario(fails="always"))


class NumpyFigures(Figures, frozen=True, kw_only=True):
    mean: float
    counts: tuple[int, ...]


class NumpyScenario(SampleScenario, frozen=True, kw_only=True):
    def perform(self, run):
        del run
        mean = np.float64(0.5)
        figures = NumpyFigures(met=np.True_, mean=mean, counts=(np.int64(3),))
        return Measured(figures, 1, 1.0)


def test_numbers_of_numpy_become_plain_ones():
    figures = run(NumpyScenario()).figures
    assert (figures.met, figures.mean, figures.counts) == (True, 0.5, (3,))
    assert type(figures.mean) is float
    assert type(figures.met) is bool
