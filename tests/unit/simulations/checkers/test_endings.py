"""What takes too long is a violation, whether it ends or not."""

import pytest

from simulations.checkers.endings import EndingChecker
from simulations.checkers.violation import ViolationError


def test_what_ends_in_time_is_fine():
    checker = EndingChecker(within_s=10)
    one, two = checker.begin(0, "a"), checker.begin(5, "b")
    checker.end(10, one)
    checker.end(14, two)
    checker.finish(1000)


def test_what_ends_late_is_a_violation():
    checker = EndingChecker(within_s=10)
    number = checker.begin(0, "a")
    with pytest.raises(ViolationError, match=r"a: found 10\.500 s since it began"):
        checker.end(10.5, number)


def test_what_never_ends_is_a_violation_and_what_still_may_is_none():
    checker = EndingChecker(within_s=10)
    checker.begin(95, "late")
    checker.finish(100)
    checker.begin(0, "lost")
    with pytest.raises(ViolationError, match="lost"):
        checker.finish(100)
