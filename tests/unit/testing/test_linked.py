from opnode.testing.linked import (
    HOSTS,
    open_linked_pair,
    seeded_certificate,
    transport_keys,
)
from opnode.testing.virtual_network import Link


def test_the_keys_of_both_ends_fit_together():
    initiator, responder = transport_keys()
    assert initiator.send == responder.receive
    assert initiator.receive == responder.send
    assert initiator.handshake_hash == responder.handshake_hash
    assert transport_keys("other")[0] != initiator


def test_a_label_always_gives_the_same_certificate():
    assert seeded_certificate("a") == seeded_certificate("a")
    assert seeded_certificate("a") != seeded_certificate("b")


async def test_a_pair_talks_over_its_own_network(autojump_clock):
    async with open_linked_pair(Link(latency_s=(0.1, 0.1))) as pair:
        assert 0.2 <= await pair.first.connection.ping() < 0.21
        assert pair.second.connection.path.endpoint.host == HOSTS[0]
        assert pair.network.statistics().sent > 0
