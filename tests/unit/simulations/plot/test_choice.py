"""What varies is drawn: numbers across, the rest as lines or charts of their own."""

import itertools

import pytest

from opnode.core.errors import ConfigError
from simulations.plot.choice import Axes, charts, choose, varied
from simulations.plot.rows import Row
from simulations.plot.words import label


def grid(seeds=(1, 2), figure="total", **values):
    names = list(values)
    return [
        Row(dict(zip(names, chosen, strict=True)), seed, {figure: float(seed)}, None)
        for chosen in itertools.product(*values.values())
        for seed in seeds
    ]


def drawn(rows, **wanted):
    return charts("sample", rows, "total", choose(rows, **wanted), label)


def test_what_has_one_value_does_not_vary():
    assert varied(grid(nodes=[1, 2], k=[20])) == ("nodes",)


def test_the_number_with_the_most_values_goes_across():
    rows = grid(k=[8, 20], nodes=[1, 2, 3], kind=["a", "b", "c", "d"])
    assert choose(rows) == Axes("nodes", ("k", "kind"), ())


def test_words_go_across_where_no_number_varies():
    (chart,) = drawn(grid(kind=["b", "a"], loud=[True]))
    assert chart.ticks == ("a", "b")
    assert [point.x for point in chart.lines[0].points] == [0, 1]


def test_seeds_go_across_where_nothing_varies():
    (chart,) = drawn(grid(nodes=[5], seeds=(1, 2, 3)))
    assert [point.y.median for point in chart.lines[0].points] == [1, 2, 3]
    assert not chart.joined


def test_what_somebody_chose_stays():
    rows = grid(k=[8, 20], nodes=[1, 2, 3])
    assert choose(rows, x="k") == Axes("k", ("nodes",), ())
    assert choose(rows, by="nodes") == Axes("k", ("nodes",), ())
    assert choose(rows, x="seed", by="k") == Axes("seed", ("k",), ("nodes",))


@pytest.mark.parametrize("option", ["x", "by"])
def test_a_name_that_is_no_parameter_is_refused_with_those_there_are(option):
    with pytest.raises(ConfigError, match="one of nodes, seed"):
        choose(grid(nodes=[1, 2]), **{option: "total"})


def test_more_lines_than_can_be_told_apart_become_charts():
    rows = grid(
        nodes=[1, 2, 3, 4], k=[1, 2, 3], loss=[0.0, 0.1, 0.2, 0.3, 0.4], seeds=[1]
    )
    assert choose(rows, x="nodes") == Axes("nodes", ("k",), ("loss",))
    assert [chart.name for chart in drawn(rows, x="nodes")][:2] == [
        "sample-total-loss=0",
        "sample-total-loss=0.1",
    ]


def test_a_point_stands_for_all_seeds():
    (chart,) = drawn(grid(nodes=[10, 20], seeds=(1, 2, 3)))
    first, second = chart.lines[0].points
    assert (first.x, second.x) == (10, 20)
    assert (first.y.median, first.y.n) == (2, 3)


def test_lines_stand_in_the_order_of_their_values():
    (chart,) = drawn(grid(nodes=[1, 2, 3], k=[20, 8]))
    assert [line.name for line in chart.lines] == ["8", "20"]
    assert chart.legend == "k"
    (chart,) = drawn(grid(nodes=[1, 2, 3], k=[8], kind=["a", "b"], loud=[True, False]))
    assert chart.lines[0].name == "kind=a, loud=False"


def test_runs_without_a_figure_do_not_count():
    rows = [*grid(nodes=[1, 2]), *grid(nodes=[1], figure="other", seeds=(9,))]
    (chart,) = drawn(rows)
    assert chart.lines[0].points[0].y.n == 2
