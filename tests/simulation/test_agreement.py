"""The three backends are one model: at 1000 nodes they come to the same.

Tolerances are those of ``simulations/theory/agreement.md``: four standard errors of the
smallest sample, and what the definitions differ by.
"""

import pytest

from simulations.runs import run
from simulations.scenario import Backend
from simulations.scenarios.hops.question import HopsFigures
from simulations.scenarios.hops.scenario import HopsScenario

NODES, LOOKUPS = 1000, 400
HOPS, ROUNDS, SECONDS, ASKED = 0.12, 0.12, 0.02, 1.0


def figures_on(backend: Backend, *, settled: bool = False) -> HopsFigures:
    scenario = HopsScenario(
        backend=backend, nodes=NODES, lookups=LOOKUPS, settled=settled
    )
    figures = run(scenario).figures
    assert figures is not None
    return figures


@pytest.fixture(scope="module")
def real() -> HopsFigures:
    return figures_on(Backend.REAL, settled=True)


@pytest.fixture(scope="module")
def event() -> HopsFigures:
    return figures_on(Backend.EVENT)


@pytest.fixture(scope="module")
def vector() -> HopsFigures:
    return figures_on(Backend.VECTOR)


def test_paths_have_as_many_hops_on_each_backend(real, event, vector):
    # Buckets hold different nodes where nodes are followed one by one.
    assert real.mean_hops == pytest.approx(vector.mean_hops_distinct, abs=HOPS)
    assert event.mean_hops == pytest.approx(vector.mean_hops_distinct, abs=HOPS)
    assert real.mean_hops == pytest.approx(event.mean_hops, abs=HOPS)
    assert real.p99_hops == event.p99_hops == vector.p99_hops


def test_lookups_take_as_many_rounds_on_each_backend(real, event, vector):
    assert real.mean_rounds == pytest.approx(vector.mean_rounds, abs=ROUNDS)
    assert event.mean_rounds == pytest.approx(vector.mean_rounds, abs=ROUNDS)
    assert real.mean_rounds == pytest.approx(event.mean_rounds, abs=ROUNDS)


def test_the_shipped_lookup_asks_as_many_and_takes_as_long_where_it_is_shipped(
    real, event
):
    assert real.rpcs_mean == pytest.approx(event.rpcs_mean, abs=ASKED)
    assert real.lookup_s_median == pytest.approx(event.lookup_s_median, abs=SECONDS)


def test_every_path_arrives_and_every_lookup_asks_all_of_the_closest(real, event):
    assert real.success == event.success == 1.0


@pytest.mark.slow
def test_nodes_that_joined_are_at_most_half_a_hop_and_half_a_round_behind(real):
    joined = figures_on(Backend.REAL)
    assert 0 < joined.mean_hops - real.mean_hops < 0.5
    assert 0 < joined.mean_rounds - real.mean_rounds < 0.5
    assert joined.success is not None
    assert joined.success > 0.99
