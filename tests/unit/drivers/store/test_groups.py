"""`groups`: the counts are right, and so is who has the most."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from opnode.drivers.store.groups import GroupCounts

GROUPS = st.sampled_from([b"", b"a", b"b", b"c"])


@given(
    st.dictionaries(GROUPS, st.integers(0, 5)),
    st.lists(st.tuples(GROUPS, st.booleans())),
)
def test_the_largest_is_one_that_a_plain_count_would_name(start, steps):
    counts = GroupCounts(start)
    plain = Counter(start)
    for group, is_more in steps:
        if is_more:
            counts.add(group)
            plain[group] += 1
        elif plain[group]:
            counts.remove(group)
            plain[group] -= 1
        others = {g: n for g, n in plain.items() if g != b"" and n}
        largest = counts.largest(but=b"")
        assert (largest is None) is not bool(others)
        if largest is not None:
            assert others[largest] == max(others.values())
        assert all(counts.count(g) == n for g, n in plain.items())


def test_of_several_with_as_many_the_one_of_longest_is_named():
    counts = GroupCounts({})
    for group in (b"a", b"b", b"a", b"b"):
        counts.add(group)
    assert counts.largest(but=b"") == b"a"
    assert counts.largest(but=b"a") == b"b"
