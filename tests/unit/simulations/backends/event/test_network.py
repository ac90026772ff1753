"""Requests are answered by those who are there, in the time that the law gives."""

import numpy as np
import pytest

from simulations.backends.event.loop import EventLoop
from simulations.backends.event.network import Network
from simulations.backends.event.population import Population
from simulations.model.round_trips import (
    LogNormalRoundTrips,
    RoundTripLaw,
    UniformRoundTrips,
)


def _network(law: RoundTripLaw) -> Network:
    generator = np.random.Generator(np.random.PCG64(2))
    people = Population.steady(4, generator)
    return Network(EventLoop(), people, law, generator)


@pytest.mark.parametrize(
    ("law", "median_s"), [(LogNormalRoundTrips(), 0.1), (UniformRoundTrips(), 0.13)]
)
def test_half_of_the_round_trips_take_longer_than_the_median(
    law: RoundTripLaw, median_s: float
) -> None:
    network = _network(law)
    drawn = [network.draw_s() for _ in range(20_000)]
    assert np.median(drawn) == pytest.approx(median_s, rel=0.02)


def _ask(network: Network, patience_s: float = 2.0) -> tuple[str, int, float]:
    heard: list[tuple[str, int, float]] = []
    network.ask(
        0,
        1,
        patience_s,
        lambda node, took_s: heard.append(("answered", node, took_s)),
        lambda node, took_s: heard.append(("failed", node, took_s)),
    )
    began_at = network.loop.now
    network.loop.run()
    assert network.loop.now == began_at + heard[0][2]
    return heard[0]


def test_who_is_there_answers_after_a_round_trip() -> None:
    what, node, took_s = _ask(_network(UniformRoundTrips()))
    assert (what, node) == ("answered", 1)
    assert 0.02 <= took_s <= 0.24


def test_who_left_or_leaves_while_the_request_is_on_its_way_never_answers() -> None:
    network = _network(UniformRoundTrips())
    network.people.end(1, 0.005)
    assert _ask(network) == ("failed", 1, 2.0)


def test_an_answer_that_takes_longer_than_the_patience_is_none() -> None:
    assert _ask(_network(UniformRoundTrips()), 0.01) == ("failed", 1, 0.01)


def test_nobody_answers_across_a_partition_until_it_heals() -> None:
    network = _network(UniformRoundTrips())
    network.sides[1] = 1
    assert _ask(network)[0] == "failed"
    network.sides.clear()
    assert _ask(network)[0] == "answered"


def test_a_share_of_the_requests_is_lost() -> None:
    network = _network(UniformRoundTrips())
    network.loss = 0.3
    lost = sum(network.round_trip_s(0, 1) is None for _ in range(5000))
    assert lost / 5000 == pytest.approx(0.3, abs=0.02)
    assert network.asked == 5000
