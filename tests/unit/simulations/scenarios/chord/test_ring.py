from hypothesis import given
from hypothesis import strategies as st

from simulations.scenarios.chord.ring import is_between

KEYS = st.integers(0, 2**64 - 1)


@given(KEYS, KEYS, KEYS)
def test_a_key_is_in_exactly_one_of_the_two_arcs_between_two_others(low, key, high):
    if low != high:
        assert is_between(low, key, high) != is_between(high, key, low)


@given(KEYS, KEYS)
def test_an_arc_has_its_end_and_not_its_beginning(low, high):
    assert is_between(low, high, high)
    assert is_between(low, low, high) == (low == high)


@given(KEYS, KEYS)
def test_the_arc_of_a_member_alone_is_everything(low, key):
    assert is_between(low, key, low)
