"""Names become labels with units."""

import pytest

from simulations.plot.words import Label, label, number


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("lookup_s_median", Label("lookup, median", "s")),
        ("p99_s_healed", Label("p99 healed", "s")),
        ("sent_B_per_s", Label("sent", "B/s")),
        ("datagrams_per_node_s", Label("datagrams per node s")),
        ("bytes_per_user", Label("bytes per user")),
        ("mean_hops", Label("mean hops")),
        ("first.success", Label("first success", "share")),
        ("found_share", Label("found", "share")),
        ("table_min", Label("table, min")),
        ("share", Label("share")),
        ("s", Label("s")),
        ("median", Label("median")),
    ],
)
def test_a_unit_leaves_the_words_and_a_count_has_none(name, shown):
    assert label(name) == shown


def test_the_unit_stands_in_parentheses():
    assert label("lookup_s").text == "lookup (s)"
    assert label("nodes").text == "nodes"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (3, "3"),
        (3.0, "3"),
        (100_000, "100000"),
        (2.345678, "2.346"),
        (1e7, "1e7"),
        (2.5e-7, "2.5e-7"),
    ],
)
def test_numbers_are_short_and_whole_ones_stay_whole(value, shown):
    assert number(value) == shown
