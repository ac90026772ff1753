"""RangeSet: borders, merging, the floor, the limit. Its model lives in property."""

import pytest

from opnode.core.ranges import RangeSet


def test_an_empty_set_has_no_numbers_and_no_borders():
    ranges = RangeSet()
    assert list(ranges) == []
    assert len(ranges) == ranges.total == 0
    assert ranges.largest is None
    assert ranges.smallest is None
    assert 0 not in ranges


def test_numbers_that_come_in_order_are_one_range():
    ranges = RangeSet()
    for number in range(1000):
        assert ranges.add(number, number + 1)
    assert list(ranges) == [(0, 1000)]
    assert (ranges.smallest, ranges.largest, ranges.total) == (0, 999, 1000)


def test_a_range_excludes_its_stop():
    ranges = RangeSet([(3, 5)])
    assert [number for number in range(8) if number in ranges] == [3, 4]


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        (0, 2, [(0, 2), (10, 20), (30, 40)]),
        (0, 10, [(0, 20), (30, 40)]),
        (5, 15, [(5, 20), (30, 40)]),
        (20, 30, [(10, 40)]),
        (15, 35, [(10, 40)]),
        (22, 25, [(10, 20), (22, 25), (30, 40)]),
        (20, 22, [(10, 22), (30, 40)]),
        (28, 30, [(10, 20), (28, 40)]),
        (0, 99, [(0, 99)]),
        (40, 41, [(10, 20), (30, 41)]),
        (35, 45, [(10, 20), (30, 45)]),
        (41, 42, [(10, 20), (30, 40), (41, 42)]),
    ],
)
def test_a_new_range_merges_with_what_it_touches(
    start: int, stop: int, expected: list[tuple[int, int]]
):
    ranges = RangeSet([(10, 20), (30, 40)])
    assert ranges.add(start, stop)
    assert list(ranges) == expected


@pytest.mark.parametrize(
    ("start", "stop"), [(10, 20), (12, 13), (19, 20), (5, 5), (7, 3)]
)
def test_adding_nothing_new_says_so_and_changes_nothing(start: int, stop: int):
    ranges = RangeSet([(10, 20), (30, 40)])
    assert not ranges.add(start, stop)
    assert list(ranges) == [(10, 20), (30, 40)]


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        (0, 10, [(10, 20), (30, 40)]),
        (20, 30, [(10, 20), (30, 40)]),
        (40, 50, [(10, 20), (30, 40)]),
        (10, 20, [(30, 40)]),
        (12, 14, [(10, 12), (14, 20), (30, 40)]),
        (5, 12, [(12, 20), (30, 40)]),
        (15, 35, [(10, 15), (35, 40)]),
        (0, 99, []),
        (14, 14, [(10, 20), (30, 40)]),
    ],
)
def test_removal_cuts_exactly_what_was_named(
    start: int, stop: int, expected: list[tuple[int, int]]
):
    ranges = RangeSet([(10, 20), (30, 40)])
    ranges.remove(start, stop)
    assert list(ranges) == expected


@pytest.mark.parametrize(
    ("floor", "expected"),
    [
        (5, [(10, 20), (30, 40)]),
        (10, [(10, 20), (30, 40)]),
        (15, [(15, 20), (30, 40)]),
        (20, [(30, 40)]),
        (25, [(30, 40)]),
        (40, []),
    ],
)
def test_pruning_keeps_only_the_floor_and_above(
    floor: int, expected: list[tuple[int, int]]
):
    ranges = RangeSet([(10, 20), (30, 40)])
    ranges.prune_below(floor)
    assert list(ranges) == expected
    assert ranges.floor == floor


def test_pruned_numbers_do_not_come_back():
    ranges = RangeSet([(0, 100)])
    ranges.prune_below(50)
    assert not ranges.add(10, 50)
    assert ranges.add(10, 200)
    assert list(ranges) == [(50, 200)]


def test_the_floor_never_sinks():
    ranges = RangeSet()
    ranges.prune_below(50)
    ranges.prune_below(20)
    assert ranges.floor == 50


def test_more_ranges_than_the_limit_forget_the_lowest():
    ranges = RangeSet(max_ranges=3)
    for number in range(0, 10, 2):
        ranges.add(number, number + 1)
    assert list(ranges) == [(4, 5), (6, 7), (8, 9)]
    assert ranges.floor == 3


def test_a_low_newcomer_to_a_full_set_is_itself_forgotten():
    ranges = RangeSet([(10, 11), (20, 21)], max_ranges=2)
    ranges.add(0, 1)
    assert list(ranges) == [(10, 11), (20, 21)]
    assert ranges.floor == 1


def test_a_removal_that_splits_keeps_the_limit_too():
    ranges = RangeSet([(0, 10), (20, 30)], max_ranges=2)
    ranges.remove(4, 6)
    assert list(ranges) == [(6, 10), (20, 30)]


def test_a_limit_below_one_is_refused():
    with pytest.raises(ValueError, match="max_ranges is 0"):
        RangeSet(max_ranges=0)


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        (0, 50, [(0, 10), (20, 30), (40, 50)]),
        (10, 20, []),
        (12, 18, []),
        (15, 25, [(20, 25)]),
        (20, 30, [(20, 30)]),
        (45, 50, [(45, 50)]),
        (0, 5, [(0, 5)]),
        (30, 40, []),
        (5, 5, []),
    ],
)
def test_missing_names_the_gaps_inside_the_borders(
    start: int, stop: int, expected: list[tuple[int, int]]
):
    assert list(RangeSet([(10, 20), (30, 40)]).missing(start, stop)) == expected


@pytest.mark.parametrize(
    ("start", "stop", "covered"),
    [
        (10, 20, True),
        (12, 13, True),
        (9, 12, False),
        (19, 21, False),
        (20, 21, False),
        (10, 40, False),
        (99, 100, False),
        (99, 99, True),
    ],
)
def test_covers_asks_for_every_number(start: int, stop: int, covered: bool):
    assert RangeSet([(10, 20), (30, 40)]).covers(start, stop) is covered


def test_reversed_gives_the_highest_range_first():
    assert list(reversed(RangeSet([(1, 2), (5, 6)]))) == [(5, 6), (1, 2)]


def test_a_copy_is_independent_and_keeps_floor_and_limit():
    ranges = RangeSet([(5, 6)], max_ranges=2)
    ranges.prune_below(3)
    twin = ranges.copy()
    twin.add(8, 9)
    twin.add(11, 12)
    assert list(ranges) == [(5, 6)]
    assert list(twin) == [(8, 9), (11, 12)]
    assert not ranges.copy().add(1, 3)


def test_clear_empties_and_keeps_the_floor():
    ranges = RangeSet([(5, 9)])
    ranges.prune_below(6)
    ranges.clear()
    assert list(ranges) == []
    assert not ranges.add(5, 6)


def test_equal_numbers_make_equal_sets_of_any_limit():
    assert RangeSet([(1, 3), (3, 5)]) == RangeSet([(1, 5)], max_ranges=9)
    assert RangeSet([(1, 5)]) != RangeSet([(1, 4)])
    assert RangeSet() != []


def test_a_set_that_changes_cannot_be_hashed():
    with pytest.raises(TypeError):
        hash(RangeSet())


def test_the_repr_shows_the_ranges():
    assert repr(RangeSet([(1, 3), (7, 8)])) == "RangeSet(1..3, 7..8)"


@pytest.mark.parametrize(
    ("start", "stop", "overlaps"),
    [
        (0, 3, False),
        (0, 4, True),
        (5, 6, True),
        (6, 8, False),
        (6, 9, True),
        (9, 99, False),
    ],
)
def test_overlaps_means_at_least_one_number(start, stop, overlaps):
    assert RangeSet([(3, 6), (8, 9)]).overlaps(start, stop) is overlaps
