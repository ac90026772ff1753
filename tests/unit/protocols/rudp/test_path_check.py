"""How much an unproven path gets, and what proves it."""

import pytest

from opnode.protocols.rudp.path_check import PathCheck
from opnode.protocols.rudp.violation import CloseCode, PeerViolationError


def test_a_path_gets_three_bytes_for_one():
    check = PathCheck(range(5, 9), received=100)
    check.on_sent(250)
    assert check.budget == 50
    check.on_received(10)
    assert check.budget == 80


def test_only_packets_behind_the_skipped_ones_prove_the_path():
    check = PathCheck(range(5, 9), received=100)
    assert not check.is_passed(((0, 5),))
    assert check.is_passed(((9, 10), (0, 5)))


CLAIMS = [((8, 10),), ((0, 6),), ((9, 10), (5, 6)), ((7, 8),)]


@pytest.mark.parametrize("ranges", CLAIMS)
def test_whoever_acknowledges_a_skipped_packet_is_caught(ranges):
    check = PathCheck(range(5, 9), received=100)
    with pytest.raises(PeerViolationError, match="5 to 8 were never sent") as caught:
        check.is_passed(ranges)
    assert caught.value.code is CloseCode.PROTOCOL_VIOLATION
