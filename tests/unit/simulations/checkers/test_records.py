"""Each checker lets pass what must hold and stops at the first step that does not."""

import pytest

from simulations.checkers.records import (
    ConvergenceChecker,
    ForgeryChecker,
    SequenceChecker,
)
from simulations.checkers.violation import ViolationError


def test_a_record_that_nobody_signed_is_a_violation():
    checker = ForgeryChecker()
    checker.signed(b"genuine")
    checker.accepted(1.0, "a", b"genuine")
    with pytest.raises(ViolationError, match=r"at 2\.000000 s a: found 666f72676564…"):
        checker.accepted(2.0, "a", b"forged")


def test_a_number_that_goes_back_for_one_reader_is_a_violation():
    checker = SequenceChecker()
    checker.seen(1, "a", b"k", 5)
    checker.seen(2, "b", b"k", 4)
    checker.seen(2, "a", b"other", 1)
    checker.seen(3, "a", b"k", 5)
    with pytest.raises(ViolationError, match="at least 5, seen before"):
        checker.seen(4, "a", b"k", 4)


def test_who_comes_back_with_nothing_may_see_less():
    checker = SequenceChecker()
    checker.seen(1, "a", b"k", 5)
    checker.forget("a")
    checker.seen(2, "a", b"k", 4)


@pytest.mark.parametrize("seq", [None, 1])
def test_a_reader_that_did_not_converge_is_a_violation(seq):
    checker = ConvergenceChecker()
    checker.published(b"k", 2)
    checker.published(b"k", 1)
    checker.read(9, "a", b"k", 2)
    with pytest.raises(ViolationError, match="expected number 2"):
        checker.read(9, "b", b"k", seq)
