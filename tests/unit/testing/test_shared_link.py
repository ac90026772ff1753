"""Several flows on one virtual link."""

import pytest

from opnode.protocols.rudp.config import RudpConfig
from opnode.testing.bottleneck import BottleneckConfig
from opnode.testing.shared_link import SharedLink, jain

LINK = BottleneckConfig(rate_Bps=250_000, delay_s=0.01, queue_bytes=20_000)


def test_a_flow_gets_no_more_than_the_link_carries():
    link = SharedLink(LINK)
    link.add(RudpConfig())
    link.run_until(2.0)
    (received,) = link.take_received()
    assert 0.8 * 500_000 < received < 500_000
    assert link.take_received() == [0]
    assert max(link.waits_s) <= 20_000 / 250_000


def test_a_flow_begins_when_it_is_told():
    link = SharedLink(LINK)
    link.add(RudpConfig())
    link.add(RudpConfig(), begins_at=0.5)
    link.run_until(0.5)
    first, second = link.take_received()
    assert first > 0 == second
    link.run_until(1.5)
    assert min(link.take_received()) > 0


def test_senders_of_a_busy_machine_do_nothing_between_their_turns():
    link = SharedLink(LINK, wakes_every_s=0.25)
    sender = link.add(RudpConfig()).sender
    sent = []
    for moment in (0.2, 0.3, 0.45, 0.55):
        link.run_until(moment)
        sent.append(sender.statistics().packets_sent)
    assert sent[1] == sent[2] < sent[3]
    assert sent[0] < sent[1]


def test_the_same_seed_gives_the_same_bytes():
    runs = []
    for _ in range(2):
        link = SharedLink(
            BottleneckConfig(
                rate_Bps=250_000, delay_s=0.01, queue_bytes=20_000, loss=0.02
            ),
            seed=3,
        )
        link.add(RudpConfig())
        link.run_until(1.0)
        runs.append((link.take_received(), link.bottleneck.lost))
    assert runs[0] == runs[1]
    assert runs[0][1] > 0


def test_jain_is_one_for_equal_shares_and_one_nth_for_one_winner():
    assert jain([5, 5, 5]) == pytest.approx(1.0)
    assert jain([9, 0, 0]) == pytest.approx(1 / 3)
    assert jain([0, 0]) == 0.0
