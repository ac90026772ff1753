"""The rate of acknowledged bytes."""

import pytest

from opnode.protocols.rudp.delivery_rate import DeliveryRate, DeliverySampler
from opnode.protocols.rudp.sent_run import SentRun


def test_a_steady_flow_shows_its_rate():
    rate = DeliveryRate()
    assert rate.bytes_per_s == 0.0
    for step in range(1000):
        rate.add(1000, now=step * 0.001, interval_s=0.05)
    assert rate.bytes_per_s == pytest.approx(1_000_000, rel=0.03)


def test_a_change_shows_within_a_few_intervals():
    rate = DeliveryRate()
    now = 0.0
    for size in (1000, 100):
        for _ in range(1000):
            now += 0.001
            rate.add(size, now=now, interval_s=0.05)
    assert rate.bytes_per_s == pytest.approx(100_000, rel=0.1)


def test_a_round_trip_shorter_than_20_ms_does_not_make_noise():
    rate = DeliveryRate()
    rate.add(1000, now=0.0, interval_s=0.0001)
    rate.add(1000, now=0.0002, interval_s=0.0001)
    assert rate.bytes_per_s == 0.0


def sent(sampler: DeliverySampler, number: int, *, now: float, in_flight: int):
    run = SentRun(number, number + 1, size=1000, sent_at=now)
    run.state = sampler.state_for(now, size=1000, in_flight=in_flight)
    return run


def test_a_sample_is_what_arrived_since_the_packet_left_by_the_time_it_took():
    sampler = DeliverySampler()
    runs = [sent(sampler, n, now=1 + n * 0.01, in_flight=1000 * n) for n in range(10)]
    for number, run in enumerate(runs):
        sample = sampler.sample(run, 1000, 1.1 + number * 0.01, 0.1)
    assert sample.delivered == 10_000
    assert sample.interval_s == pytest.approx(0.19)
    late = sent(sampler, 10, now=1.2, in_flight=0)
    sample = sampler.sample(late, 1000, 1.3, 0.1)
    assert sample.bytes_per_s == pytest.approx(1000 / 0.1)
    assert sample.prior_delivered == 10_000


def test_a_burst_of_acknowledgements_does_not_look_faster_than_it_was_sent():
    sampler = DeliverySampler()
    first = sent(sampler, 0, now=1.0, in_flight=0)
    second = sent(sampler, 1, now=1.5, in_flight=1000)
    sampler.sample(first, 1000, 2.0, 0.5)
    sample = sampler.sample(second, 1000, 2.0001, 0.5)
    assert sample.bytes_per_s == pytest.approx(2000 / 1.0001)


def test_an_interval_below_the_shortest_round_trip_is_no_sample():
    sampler = DeliverySampler()
    run = sent(sampler, 0, now=1.0, in_flight=0)
    assert sampler.sample(run, 1000, 1.01, 0.1).bytes_per_s == 0.0


def test_what_leaves_after_the_application_ran_dry_is_marked_until_that_arrived():
    sampler = DeliverySampler()
    sampler.on_app_limited(1000)
    dry = sent(sampler, 0, now=1.0, in_flight=1000)
    assert dry.state.is_app_limited
    assert sampler.sample(dry, 1000, 1.1, None).is_app_limited
    # Who waits for an answer sends into an empty pipe: that measures nobody but him.
    lone = sent(sampler, 1, now=1.2, in_flight=0)
    assert lone.state.is_app_limited
    sampler.sample(lone, 1000, 1.3, None)
    assert not sent(sampler, 2, now=1.3, in_flight=0).state.is_app_limited


def test_losses_since_a_packet_left_come_with_its_sample():
    sampler = DeliverySampler()
    sampler.on_lost(500)
    run = sent(sampler, 0, now=1.0, in_flight=0)
    sampler.on_lost(700)
    assert sampler.sample(run, 1000, 1.1, None).lost == 700
