"""Honest receivers are never accused and others not believed, whatever the link did."""

import random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opnode.core.ranges import RangeSet
from opnode.protocols.rudp.frames import MAX_ACK_RANGES, AckFrame
from opnode.protocols.rudp.receipt_proof import ReceiptProof
from opnode.protocols.rudp.receipts import Receipts
from opnode.protocols.rudp.violation import CloseCode, PeerViolationError

# What a link makes of 200 packets: which arrive, in which order, and how often.
PACKETS = 200


class Arrivals(NamedTuple):
    """Packet numbers as they come; whether what was told is forgotten, and how much."""

    numbers: list[int]
    max_ranges: int
    told: list[int]


@st.composite
def arrivals(draw: st.DrawFn) -> Arrivals:
    dice = random.Random(draw(st.integers(0, 1 << 32)))
    loss = draw(st.sampled_from([0.0, 0.02, 0.3, 0.9]))
    spread = draw(st.sampled_from([0, 1, 5, 100]))
    duplication = draw(st.sampled_from([0.0, 0.3]))
    coming: list[tuple[float, int]] = []
    for number in range(PACKETS):
        copies = (dice.random() >= loss) + (dice.random() < duplication)
        coming += [(number + spread * dice.random(), number) for _ in range(copies)]
    return Arrivals(
        [number for _, number in sorted(coming)],
        draw(st.sampled_from([1, 2, 16, 1024])),
        draw(st.lists(st.integers(0, PACKETS), max_size=10)),
    )


def take(receipts: Receipts, proof: ReceiptProof, number: int) -> None:
    """Receive a packet as the receiver does: known ones are dropped."""
    if number not in receipts:
        receipts.add(number, number + 1, proof.marks(number, 1)[0])


def ack_of(receipts: Receipts) -> AckFrame:
    told = receipts.highest(MAX_ACK_RANGES)
    return AckFrame(
        0.0,
        tuple((start, stop) for start, stop, _ in told),
        bytes(mark for _, _, mark in told),
    )


@settings(max_examples=300)
@given(arrivals())
def test_an_honest_receiver_is_never_accused(arriving):
    proof = ReceiptProof(bytes(range(32)))
    receipts = Receipts(max_ranges=arriving.max_ranges)
    forget_at = {10 * index: below for index, below in enumerate(arriving.told)}
    for count, number in enumerate(arriving.numbers):
        take(receipts, proof, number)
        proof.check(ack_of(receipts), 0, RangeSet())
        if count in forget_at:
            receipts.forget_below(forget_at[count])
            proof.check(ack_of(receipts), 0, RangeSet())


# Each example tries all guesses: a hundred examples are 25,600 proofs.
@given(arrivals(), st.data())
def test_one_packet_that_was_not_received_makes_the_proof_a_guess(arriving, data):
    """Of all 256 guesses for the packet that is missing exactly one passes."""
    proof = ReceiptProof(bytes(range(32)))
    missing = data.draw(st.integers(0, PACKETS - 1))
    receipts = Receipts(max_ranges=1024)
    for number in arriving.numbers:
        if number != missing:
            take(receipts, proof, number)
    passed = 0
    for guess in range(256):
        claimed = Receipts(max_ranges=1024)
        for start, stop, mark in reversed(receipts.highest(PACKETS)):
            claimed.add(start, stop, mark)
        claimed.add(missing, missing + 1, guess)
        try:
            proof.check(ack_of(claimed), 0, RangeSet())
        except PeerViolationError as error:
            assert error.code is CloseCode.FALSE_RECEIPT  # noqa: PT017 - some pass
            continue
        passed += 1
    assert passed == 1


@pytest.mark.parametrize("key", [bytes(32), bytes(range(32)), b"\xff" * 32])
def test_what_was_received_says_nothing_of_what_was_not(key):
    """The best guess from all other bytes is right once in 256 times."""
    proof = ReceiptProof(key)
    marks = proof.marks(0, 51_200)
    right = sum(
        marks[number] == marks[number - 1] ^ marks[number + 1]
        for number in range(1, len(marks) - 1)
    )
    assert 130 <= right <= 270
    assert max(marks.count(value) for value in range(256)) < 280
