"""An iterative lookup ends when it knows the nearest node, and asks nobody twice."""

import numpy as np
import pytest

from simulations.backends.vector.population import Population
from simulations.backends.vector.rounds import IterativeLookups
from simulations.backends.vector.tables import Tables
from simulations.model.round_trips import UniformRoundTrips


def lookups(count, k=20, alpha=3, law=None):
    generator = np.random.default_rng(3)
    drawn = Tables(Population.drawn(generator, count), k, 3)
    askers = generator.integers(0, count, 2000)
    keys = generator.integers(0, 2**64, 2000, dtype=np.uint64)
    law = law or UniformRoundTrips()
    return IterativeLookups(drawn, alpha, law, generator).run(askers, keys)


@pytest.mark.parametrize(("count", "published"), [(1000, 1.04), (100_000, 1.94)])
def test_rounds_are_those_that_were_published(count, published):
    # Three standard errors of 400 published lookups, and of ours.
    assert lookups(count).rounds.mean() == pytest.approx(published, abs=0.06)


def test_a_round_asks_alpha_nodes():
    found = lookups(10_000, alpha=5)
    assert (found.asked == 5 * found.rounds).all()


def test_more_questions_at_a_time_make_fewer_rounds():
    means = [lookups(10_000, k=8, alpha=alpha).rounds.mean() for alpha in (1, 3, 8)]
    assert means == sorted(means, reverse=True)
    assert means[0] > means[2] + 0.2


class OneSecond:
    """Every round trip takes a second."""

    def draw(self, _generator, count):
        return np.ones(count)


def test_a_lookup_takes_as_long_as_its_rounds():
    found = lookups(10_000, law=OneSecond())
    assert (found.took_s == found.rounds).all()


def test_a_round_takes_as_long_as_its_slowest_answer():
    slowest = lookups(10_000, alpha=20).took_s / lookups(10_000, alpha=20).rounds
    # The mean of one round trip is 0.13 s, and of the slowest of 20 it is 0.2 s.
    assert slowest.mean() > 0.18


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_lookup_among_few_ends_when_nobody_is_left_to_ask(count):
    found = lookups(count)
    assert (found.asked <= count - 1).all()
    assert (found.rounds >= 1).all()
