"""A chart knows how its axes run and what its band is."""

import pytest

from simulations.plot.chart import Chart, Line, Point
from simulations.plot.spread import Spread
from simulations.plot.words import Label


def chart(xs, ys, n=3, **more):
    points = tuple(Point(x, Spread(y, y, y, n)) for x, y in zip(xs, ys, strict=True))
    return Chart(
        name="a",
        title="A",
        x=Label("nodes"),
        y=Label("lookup", "s"),
        lines=(Line(name="", points=points),),
        **more,
    )


@pytest.mark.parametrize(
    ("values", "is_log"),
    [
        ((1, 10, 100), True),
        ((1, 2, 3), False),
        ((0, 10, 1000), False),
        ((-1, 50), False),
    ],
)
def test_an_axis_is_logarithmic_where_positive_values_span_decades(values, is_log):
    flat = [5.0] * len(values)
    assert chart(values, flat).log_x is is_log
    assert chart(flat, values).log_y is is_log


def test_named_places_have_no_logarithm():
    assert not chart((0, 1), (1, 1), ticks=("a", "b")).log_x


def test_the_band_says_of_how_many_runs_it_is():
    assert chart((1,), (1,), n=1).band == "one run a point"
    assert chart((1,), (1,), n=5).band == "median and 10-90 % band of 5 runs a point"


def test_a_caption_names_both_axes_and_the_lines():
    shown = chart((1,), (1,), legend="k").caption
    assert shown.startswith("A: lookup (s) over nodes, for each k; median")
