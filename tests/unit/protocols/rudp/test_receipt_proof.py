"""What is hidden in packets proves ranges of them, and nothing else does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opnode.core.ranges import RangeSet
from opnode.protocols.rudp.frames import AckFrame
from opnode.protocols.rudp.receipt_proof import ReceiptProof
from opnode.protocols.rudp.violation import CloseCode, PeerViolationError

PROOF = ReceiptProof(bytes(range(32)))


def seen(numbers: range) -> int:
    """Return what somebody gathers who opened these packets."""
    gathered = 0
    for number in numbers:
        gathered ^= PROOF.marks(number, 1)[0]
    return gathered


@given(st.integers(0, 1 << 54), st.integers(1, 70))
def test_who_saw_all_packets_of_a_range_can_prove_it(start, count):
    assert PROOF.proves(start, start + count, seen(range(start, start + count)))


@given(st.integers(0, 1 << 54), st.integers(1, 70))
def test_marks_do_not_depend_on_how_packets_are_put_into_bursts(start, count):
    one_by_one = b"".join(PROOF.marks(start + index, 1) for index in range(count))
    assert PROOF.marks(start, count) == one_by_one


def test_a_lie_about_one_packet_passes_once_in_256_times():
    passed = sum(
        PROOF.proves(start, start + 10, seen(range(start, start + 9)))
        for start in range(0, 51_200, 10)
    )
    assert 5 <= passed <= 50


def test_another_key_makes_other_marks():
    assert PROOF.marks(0, 32) != ReceiptProof(bytes(32)).marks(0, 32)


def lie(start: int, stop: int) -> AckFrame:
    """Acknowledge a range with a proof that cannot be right."""
    wrong = seen(range(start, stop)) ^ 0x55
    return AckFrame(0.0, ((start, stop),), bytes([wrong]))


@pytest.mark.parametrize(
    ("oldest", "lost"), [(9, ()), (0, ()), (20, ((9, 12),)), (20, ((3, 6),))]
)
def test_a_range_with_a_packet_in_flight_or_lost_is_looked_at(oldest, lost):
    with pytest.raises(PeerViolationError) as caught:
        PROOF.check(lie(5, 10), oldest, RangeSet(lost))
    assert caught.value.code is CloseCode.FALSE_RECEIPT


@pytest.mark.parametrize("lost", [(), ((0, 5),), ((10, 12),)])
def test_a_range_that_changes_nothing_is_not_looked_at(lost):
    PROOF.check(lie(5, 10), 10, RangeSet(lost))


def test_ranges_that_change_nothing_hide_no_range_behind_them():
    frame = AckFrame(0.0, ((15, 18), (5, 10)), bytes([0, 0]))
    with pytest.raises(PeerViolationError, match="packets 5 to 9"):
        PROOF.check(frame, 20, RangeSet([(6, 7)]))
