"""A size beyond its bound is a violation."""

import pytest

from simulations.checkers.bounds import BoundChecker
from simulations.checkers.violation import ViolationError


def test_up_to_its_bound_a_queue_may_grow():
    checker = BoundChecker()
    for size in (0, 10, 4):
        checker.measured(1, "a", "datagrams", size=size, bound=10)
    assert checker.fullest == {"datagrams": 1.0}


def test_beyond_its_bound_it_is_a_violation():
    with pytest.raises(ViolationError, match="found 11 datagrams, expected at most 10"):
        BoundChecker().measured(1, "a", "datagrams", size=11, bound=10)
