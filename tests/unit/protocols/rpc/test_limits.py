"""`limits`: nobody makes a node work more than its share, in bounded memory."""

from dataclasses import replace

import pytest

from opnode.protocols.rpc.limits import Buckets, LimitConfig, Rates, RequestLimits

CONFIG = LimitConfig(
    public=Rates(10.0, 20.0, 100.0),
    private=Rates(100.0, 200.0, 1000.0),
    loopback=Rates(1000.0, 1000.0, 1000.0),
    burst_s=1.0,
)


def admitted(limits, hosts, now=0.0, *, verified=True, units=1.0):
    return sum(
        limits.admits(host, verified=verified, units=units, now=now) for host in hosts
    )


def test_a_bucket_gives_its_burst_at_once_and_its_rate_afterwards():
    buckets = Buckets(burst_s=1.0, tracked=10)
    at_once = sum(buckets.take("one", 0.1, 0.0) for _ in range(100))
    assert at_once in (10, 11)
    later = sum(buckets.take("one", 0.1, tick / 100) for tick in range(1, 1001))
    assert 99 <= later <= 101


def test_a_bucket_that_rested_is_full_and_no_fuller():
    buckets = Buckets(burst_s=1.0, tracked=10)
    for _ in range(100):
        buckets.take("one", 0.1, 0.0)
    rested = sum(buckets.take("one", 0.1, 1000.0) for _ in range(100))
    assert rested in (10, 11)


def test_full_buckets_are_forgotten_and_empty_ones_are_not():
    buckets = Buckets(burst_s=1.0, tracked=100)
    while buckets.take("greedy", 0.5, 10.0):
        pass
    for number in range(1000):
        buckets.take(str(number), 0.001, 10.0 + number / 1000)
    assert len(buckets) <= 100
    assert not buckets.take("greedy", 0.5, 10.0 + 0.1)


def test_memory_is_bounded_when_every_bucket_is_in_use():
    buckets = Buckets(burst_s=1.0, tracked=100)
    for number in range(10_000):
        assert buckets.take(number, 1.0, 0.0)
        assert len(buckets) <= 100


def test_one_address_has_its_share_and_another_its_own():
    limits = RequestLimits(CONFIG)
    assert 10 <= admitted(limits, ["8.8.8.8"] * 100) <= 11
    assert admitted(limits, ["9.9.9.9"] * 5) == 5


@pytest.mark.parametrize(
    "network", ["8.8.8.{}", "2a00:1450:4001:{:x}::1"], ids=["/24", "/48"]
)
def test_the_addresses_of_one_subnet_share(network):
    limits = RequestLimits(CONFIG)
    hosts = [network.format(number) for number in range(1, 200)]
    assert 20 <= admitted(limits, hosts) <= 21


def test_everybody_together_has_the_total():
    limits = RequestLimits(CONFIG)
    hosts = [f"{first}.1.1.1" for first in range(11, 100)] * 3
    hosts = [host for host in hosts if not host.startswith("10.")]
    assert 100 <= admitted(limits, hosts) <= 101


def test_forged_sources_take_nothing_from_whoever_has_a_token():
    limits = RequestLimits(CONFIG)
    assert admitted(limits, ["8.8.8.8"] * 1000, verified=False) <= 6
    everybody = [f"{first}.2.2.2" for first in range(11, 200)] * 10
    assert admitted(limits, everybody, verified=False) <= 60 + 1000
    assert admitted(limits, ["8.8.8.8"] * 10) == 10


def test_private_and_loopback_askers_have_more():
    limits = RequestLimits(CONFIG)
    assert 100 <= admitted(limits, ["192.168.1.7"] * 500) <= 101
    assert 1000 <= admitted(limits, ["127.0.0.1"] * 5000) <= 1001


def test_heavier_work_is_counted_as_more():
    limits = RequestLimits(CONFIG)
    assert 2 <= admitted(limits, ["8.8.8.8"] * 100, units=5.0) <= 3


def test_a_hot_key_leaves_half_for_the_others():
    limits = RequestLimits(CONFIG)

    def readers(network, key):
        hosts = [f"{network}.{number}.1.1" for number in range(200)]
        return sum(
            limits.admits(host, verified=True, units=0.1, now=0.0, key=key)
            for host in hosts
        )

    assert 50 <= readers(20, b"hot") <= 51
    assert readers(21, b"other") >= 50
    assert readers(22, None) == 200


@pytest.mark.slow
def test_forged_sources_that_ask_for_one_key_do_not_make_it_unreadable():
    limits = RequestLimits(CONFIG)
    for number in range(10_000):
        host = f"{20 + number % 100}.{number // 100}.1.1"
        limits.admits(host, verified=False, units=0.1, now=0.0, key=b"wanted")
    assert limits.admits("8.8.8.8", verified=True, units=1.0, now=0.0, key=b"wanted")


def test_few_are_told_that_we_are_busy():
    limits = RequestLimits(replace(CONFIG, busy_per_s=10.0))
    assert 10 <= sum(limits.may_say_busy(0.0) for _ in range(1000)) <= 11
    assert limits.may_say_busy(1.0)


def test_the_shipped_limits_let_a_thousand_nodes_share_one_loopback_address():
    limits = RequestLimits(LimitConfig())
    hosts = ["127.0.0.1"] * 20_000
    assert admitted(limits, hosts) == 20_000
    # Four thousand requests a second for ten seconds, without a pause.
    steady = sum(
        limits.admits("127.0.0.1", verified=True, units=1.0, now=1.0 + n / 4000)
        for n in range(40_000)
    )
    assert steady == 40_000
