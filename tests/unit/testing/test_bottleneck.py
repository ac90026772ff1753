import random

import pytest

from opnode.core.errors import ConfigError
from opnode.testing.bottleneck import (
    Bottleneck,
    BottleneckConfig,
    bandwidth_delay_bytes,
)


def bottleneck(
    *,
    rate: float = 1000.0,
    delay_s: float = 0.5,
    queue: int = 300,
    loss: float = 0.0,
    mark: int = 0,
) -> Bottleneck:
    config = BottleneckConfig(
        rate_Bps=rate, delay_s=delay_s, queue_bytes=queue, loss=loss, mark_bytes=mark
    )
    return Bottleneck(config, random.Random(1))


def test_a_packet_on_an_idle_link_takes_its_own_time_and_the_way():
    assert bottleneck().arrives_at(100, 7.0) == pytest.approx(7.0 + 0.1 + 0.5)


def test_packets_that_come_at_once_leave_one_after_the_other():
    link = bottleneck()
    arrivals = [link.arrives_at(100, 0.0) for _ in range(3)]
    assert arrivals == pytest.approx([0.6, 0.7, 0.8])
    assert link.waiting_s(0.0) == pytest.approx(0.3)
    assert link.waiting_s(10.0) == 0


def test_what_waits_has_not_departed():
    link = bottleneck()
    for _ in range(3):
        link.arrives_at(100, 0.0)
    assert link.departed_bytes(0.1) == pytest.approx(100)
    assert link.departed_bytes(5.0) == 300


def test_what_finds_the_queue_full_is_dropped_and_takes_no_turn():
    link = bottleneck(queue=300)
    assert [link.arrives_at(100, 0.0) is None for _ in range(5)] == [
        *[False] * 3,
        *[True] * 2,
    ]
    assert (link.dropped, link.carried, link.carried_bytes) == (2, 3, 300)
    # A tenth of a second later there is room for one of them.
    assert link.arrives_at(100, 0.1001) == pytest.approx(0.9)


def test_the_wire_loses_its_share_after_the_packets_took_their_turn():
    link = bottleneck(rate=1e6, queue=10**9, loss=0.1)
    lost = sum(link.arrives_at(100, 0.0) is None for _ in range(10_000))
    assert lost == link.lost
    assert lost == pytest.approx(1000, rel=0.15)
    assert link.carried == 10_000


def test_packets_are_marked_while_the_queue_is_above_its_threshold():
    link = bottleneck(queue=1000, mark=200)
    marks = []
    for _ in range(4):
        marks.append(link.wants_mark(0.0))
        link.arrives_at(100, 0.0)
    assert marks == [False, False, False, True]
    assert link.marked == 1
    assert not link.wants_mark(5.0)
    assert not bottleneck(mark=0).wants_mark(0.0)


def test_a_bandwidth_delay_product_is_bytes():
    assert bandwidth_delay_bytes(12_500_000, 0.05) == 625_000


@pytest.mark.parametrize(
    "wrong", [{"rate": 0}, {"delay_s": -1}, {"queue": -1}, {"loss": 1.5}]
)
def test_links_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError):
        bottleneck(**wrong)
