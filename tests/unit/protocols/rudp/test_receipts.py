"""Ranges of received numbers grow, join and are forgotten whole, with their proofs."""

import random

from hypothesis import given
from hypothesis import strategies as st

from opnode.protocols.rudp.receipts import Receipts


def test_ranges_that_touch_become_one_with_one_proof():
    receipts = Receipts(max_ranges=10)
    receipts.add(0, 2, 1)
    receipts.add(4, 6, 2)
    receipts.add(8, 9, 4)
    assert receipts.highest(9) == [(8, 9, 4), (4, 6, 2), (0, 2, 1)]
    receipts.add(2, 4, 8)
    assert receipts.highest(9) == [(8, 9, 4), (0, 6, 11)]
    receipts.add(7, 8, 16)
    assert receipts.highest(1) == [(7, 9, 20)]
    receipts.add(9, 12, 32)
    receipts.add(12, 12, 255)
    assert receipts.highest(9) == [(7, 12, 52), (0, 6, 11)]


def test_what_is_forgotten_is_forgotten_by_whole_ranges():
    receipts = Receipts(max_ranges=10)
    for start in (0, 10, 20):
        receipts.add(start, start + 5, start)
    receipts.forget_below(14)
    assert receipts.highest(9) == [(20, 25, 20), (10, 15, 10)]
    assert 7 in receipts
    assert 17 not in receipts
    receipts.forget_below(1000)
    assert receipts.highest(9) == [(20, 25, 20)]
    assert 17 in receipts


def test_one_range_too_many_forgets_the_lowest():
    receipts = Receipts(max_ranges=3)
    for start in (40, 30, 20, 10):
        receipts.add(start, start + 5, 1)
    assert len(receipts) == 3
    assert 12 in receipts
    assert 17 in receipts
    assert receipts.floor == 20


@given(st.lists(st.integers(0, 40), unique=True), st.integers(0, 1000))
def test_any_order_gives_the_same_ranges_and_proofs(numbers, seed):
    marks = random.Random(seed).randbytes(41)
    receipts = Receipts(max_ranges=100)
    for number in numbers:
        assert number not in receipts
        receipts.add(number, number + 1, marks[number])
    seen: set[int] = set()
    for start, stop, proof in receipts.highest(100):
        expected = 0
        for number in range(start, stop):
            expected ^= marks[number]
            seen.add(number)
        assert proof == expected
        assert stop not in numbers
        assert start - 1 not in numbers
    assert seen == set(numbers)
