"""What is hidden in packets proves ranges of them, and nothing else does."""

from hypothesis import given
from hypothesis import strategies as st

from opnode.protocols.rudp.receipt_proof import ReceiptProof

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
