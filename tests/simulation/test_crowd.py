"""A crowd next to a key is noticed, and leaves honest nodes in its region."""

import random

import numpy as np
import pytest

from opnode.protocols.density import Density
from simulations.scenarios.crowd import CrowdScenario, alarms, estimates


@pytest.mark.parametrize("sybils", [20, 50, 100])
def test_a_crowd_is_noticed_and_hides_nothing(checked, sybils):
    figures = checked(CrowdScenario(sybils=sybils, trials=2000)).figures
    assert figures.hits == 1.0
    assert figures.region_success == 1.0


def test_twenty_ids_hide_what_lies_at_the_nearest_alone(checked):
    assert checked(CrowdScenario(sybils=20, trials=2000)).figures.nearest_success < 0.25


def test_a_run_repeats_itself(checked):
    first, second = (checked(CrowdScenario(trials=3000)) for _ in range(2))
    assert first.digest == second.digest


def test_the_arrays_judge_as_the_shipped_rules_do():
    rng, nodes, k = random.Random(1), 10_000, 20
    seen = []
    for crowd in (0, 3, 5, 8) * 10:
        density = Density()
        sets = [_closest(rng, nodes, 0, k) for _ in range(8)]
        for number, near in enumerate(sets):
            density.add(number.to_bytes(20, "big"), _ids(number, near))
        away = _closest(rng, nodes, crowd, k)
        shipped = density.alarm(bytes(20), _ids(0, away)) is not None
        assert density.size is not None
        ours = alarms(
            np.array([density.size]), np.array([[one / 2**160 for one in away]])
        )
        seen.append(shipped)
        assert ours[0] == shipped
    assert {True, False} == set(seen)


def test_the_estimates_are_those_of_the_shipped_rules():
    sizes = estimates(np.random.default_rng(1), 10_000, 8, 2000)
    rng, shipped = random.Random(1), []
    for _ in range(300):
        density = Density()
        for number in range(8):
            near = _closest(rng, 10_000, 0, 20)
            density.add(number.to_bytes(20, "big"), _ids(number, near))
        shipped.append(density.size)
    assert abs(sizes.mean() / np.mean(shipped) - 1) < 0.02
    assert abs(sizes.std() / np.std(shipped) - 1) < 0.2


def _closest(rng, nodes, crowd, k):
    gaps = [rng.expovariate(nodes) for _ in range(k)]
    away = [sum(gaps[: n + 1]) for n in range(k)]
    away += [rng.random() / (16 * nodes) for _ in range(crowd)]
    return [1 + int(share * 2**160) for share in sorted(away)[:k]]


def _ids(target, away):
    return [(target ^ one).to_bytes(20, "big") for one in away]
