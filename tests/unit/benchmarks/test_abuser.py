"""`abuser`: every kind of attack is what it says it is."""

import random

import pytest

from benchmarks.abuser import MAKERS, Attack
from opnode.core.addresses import Endpoint
from opnode.protocols.rudp import packet
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.connection import RudpConnection
from opnode.protocols.rudp.lifetime import ConnectionState
from opnode.testing.linked import transport_keys

NUMBER = 5
ATTACKER = Endpoint("192.0.2.66", 6666)
STRANGERS = {"junk", "forged"}


class Deaf:
    """A socket on which nothing ever arrives."""

    def recv(self, _size):
        raise BlockingIOError


def suffer(kind: str, count: int) -> RudpConnection:
    attack = Attack(Deaf(), NUMBER)
    victim = RudpConnection(
        initiator=False,
        keys=transport_keys(f"idle {NUMBER}")[1],
        config=RudpConfig(),
        rng=random.Random(1),
    )
    victim.set_path(ATTACKER, 1.0)
    for index in range(count):
        wire = MAKERS[kind](attack, index)
        assert len(wire) <= packet.BASE_PACKET_SIZE
        victim.receive_run(memoryview(wire), len(wire), ATTACKER, 1.0)
    return victim


@pytest.mark.parametrize("kind", sorted(set(MAKERS) - STRANGERS - {"replay"}))
def test_who_has_the_keys_sends_packets_that_authenticate(kind):
    figures = suffer(kind, 2).statistics()
    assert figures.forged + figures.malformed == 0


@pytest.mark.parametrize("kind", sorted(STRANGERS))
def test_who_has_not_sends_packets_that_do_not(kind):
    figures = suffer(kind, 20).statistics()
    assert figures.packets_received == 0
    assert figures.forged + figures.malformed == 20


def test_a_replay_is_one_packet_again_and_again():
    figures = suffer("replay", 20).statistics()
    assert (figures.packets_received, figures.duplicates) == (1, 19)


def test_pings_by_the_hundred_are_cut_off():
    victim = suffer("pings", 400)
    assert victim.state is not ConnectionState.OPEN
    assert victim.statistics().packets_received < 300
