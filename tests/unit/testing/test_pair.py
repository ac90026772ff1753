"""The virtual link does to packets what it was told, and nothing else."""

import pytest

from opnode.core.addresses import Endpoint
from opnode.protocols.rudp.events import DatagramReceived, PingAcknowledged
from opnode.testing.pair import LinkConfig, Pair, seeded_keys

ELSEWHERE = Endpoint("198.51.100.7", 4003)


def flood(pair: Pair, count: int = 400) -> int:
    """Put packets on the link; returns how many the other end saw."""
    # A genuine packet in a run of others would count as one of them. The slowest link
    # takes seconds for the key exchange.
    pair.run_for(15.0)
    before = pair.b.connection.statistics()
    for _ in range(count):
        pair.put_on_link(pair.a.endpoint, pair.b.endpoint, bytes(100))
    pair.run_for(5.0)
    after = pair.b.connection.statistics()
    return after.malformed - before.malformed


@pytest.mark.parametrize(
    ("link", "least", "most"),
    [
        (LinkConfig(), 400, 400),
        (LinkConfig(loss=0.5), 150, 250),
        (LinkConfig(loss=1.0), 0, 0),
        (LinkConfig(duplication=0.5), 550, 650),
        (LinkConfig(rate_Bps=1000.0, queue_bytes=1000), 10, 12),
    ],
)
def test_the_link_loses_and_doubles_as_often_as_it_was_told(link, least, most):
    assert least <= flood(Pair(link=link)) <= most


def test_latency_is_one_way():
    pair = Pair(link=LinkConfig(latency_s=0.25))
    pair.run_for(1.0)
    pair.a.connection.ping(pair.now)
    pair.run_for(1.0)
    (event,) = pair.a.events_of(PingAcknowledged)
    assert event.rtt_s == pytest.approx(0.5)


def test_an_end_that_was_rebound_is_seen_at_its_new_address_and_not_at_the_old():
    pair = Pair(link=LinkConfig(latency_s=0.25, rate_Bps=1e6))
    pair.run_for(1.0)
    pair.rebind(pair.a, ELSEWHERE)
    pair.b.connection.send_datagram(b"to the old address", pair.now)
    pair.flush()
    pair.run_for(0.3)
    assert not pair.a.events_of(DatagramReceived)
    pair.a.connection.send_datagram(b"from the new one", pair.now)
    pair.run_for(1.0)
    assert pair.b.connection.statistics().path == ELSEWHERE


def test_the_keys_of_both_ends_match_and_differ_by_seed():
    first, second = seeded_keys(3)
    assert (first.send, first.receive) == (second.receive, second.send)
    assert first.handshake_hash == second.handshake_hash
    assert seeded_keys(4)[0].send != first.send


def test_a_condition_that_never_holds_fails_with_its_time():
    with pytest.raises(AssertionError, match="3 virtual seconds"):
        Pair().drive(lambda: False, within_s=3)


def test_a_pair_without_paths_has_nothing_to_do():
    pair = Pair(connect=False)
    assert not pair.step()
    before = pair.now
    pair.run_for(7.0)
    assert pair.now == before + 7.0
