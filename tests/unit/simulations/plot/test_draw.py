"""A chart is drawn in every format, the same one to the same bytes."""

import pytest

from simulations.plot.chart import Chart, Line, Point
from simulations.plot.draw import Format, drawn
from simulations.plot.spread import Spread
from simulations.plot.words import Label

pytestmark = pytest.mark.slow

MAGIC = {Format.PNG: b"\x89PNG", Format.SVG: b"<?xml", Format.PDF: b"%PDF"}


def chart(lines=2, xs=(1, 10, 100), y=0.5, **more):
    return Chart(
        name="a",
        title="A",
        x=Label("nodes"),
        y=Label("found", "share"),
        legend="k",
        **more,
        lines=tuple(
            Line(
                name=str(number),
                points=tuple(
                    Point(x, Spread(y, y / 2, min(1, y * 1.5), 3)) for x in xs
                ),
            )
            for number in range(lines)
        ),
    )


@pytest.mark.parametrize("kind", list(Format))
def test_the_same_chart_gives_the_same_bytes(kind):
    data = drawn(chart(), kind)
    assert data.startswith(MAGIC[kind])
    assert drawn(chart(), kind) == data


@pytest.mark.parametrize(
    "shape",
    [
        {"lines": 1},
        {"lines": 12},
        {"xs": (5,)},
        {"xs": tuple(range(100))},
        {"xs": (0, 1), "ticks": ("a", "b")},
        {"joined": False},
        {"y": 0.0},
        {"y": 1.0},
    ],
)
def test_every_shape_of_chart_can_be_drawn(shape):
    assert drawn(chart(**shape), Format.PNG).startswith(MAGIC[Format.PNG])


def test_a_pdf_has_letters_and_no_pictures_of_them():
    data = drawn(chart(), Format.PDF)
    assert b"/Type3" not in data
    assert b"/TrueType" in data or b"/CIDFontType2" in data


def test_a_picture_asks_for_nothing_outside():
    data = drawn(chart(), Format.SVG)
    assert b"<text" not in data
    assert b'href="http' not in data
