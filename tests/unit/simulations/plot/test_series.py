"""Time series of many runs meet on one axis."""

from types import SimpleNamespace

import polars
import pytest

from simulations.plot.choice import Axes
from simulations.plot.columns import tables
from simulations.plot.rows import Row
from simulations.plot.series import BINS, Series, series_charts

AS_LINES = Axes("", ("k",), ())


@pytest.fixture
def charts_of(tmp_path):
    def charts_of(*runs, axes=AS_LINES):
        rows = []
        for number, (k, columns) in enumerate(runs):
            place = f"{number}.parquet"
            polars.DataFrame(columns).write_parquet(tmp_path / place)
            result = SimpleNamespace(series={"stale": place})
            rows.append(Row({"k": k}, number, {}, result))
        found = list(tables(tmp_path, rows, "stale"))
        return series_charts(Series("churn", "stale", found), axes)

    return charts_of


def test_runs_of_one_kind_become_a_line_with_a_band(charts_of):
    runs = [(8, {"t_h": [0, 1], "share": [0.0, n / 10]}) for n in range(11)]
    (chart,) = charts_of(*runs)
    (line,) = chart.lines
    assert line.name == "k=8"
    assert chart.x.text == "time (h)"
    last = line.points[-1]
    assert (last.x, last.y.n) == (1, 11)
    assert (last.y.low, last.y.median, last.y.high) == pytest.approx((0.1, 0.5, 0.9))


def test_every_column_of_numbers_has_its_chart(charts_of):
    (run,) = [(8, {"t_s": [0.0, 1.0], "a": [1, 2], "b": [1.0, 2.0]})]
    assert [chart.name for chart in charts_of(run)] == [
        "churn-stale-a",
        "churn-stale-b",
    ]


def test_a_column_of_words_tells_lines_apart(charts_of):
    columns = {"t_s": [0, 0], "role": ["leaf", "server"], "bytes": [1, 5]}
    (chart,) = charts_of((8, columns), (20, columns))
    assert [line.name for line in chart.lines] == [
        "k=8, leaf",
        "k=8, server",
        "k=20, leaf",
        "k=20, server",
    ]


def test_moments_that_never_meet_are_put_into_bins(charts_of):
    runs = [
        (8, {"t_s": [t + run / 7 for t in range(1000)], "n": [run] * 1000})
        for run in range(3)
    ]
    (chart,) = charts_of(*runs)
    points = chart.lines[0].points
    assert BINS <= len(points) <= BINS + 1
    assert points[50].y.n == 3
    assert points[50].y.median == 1


def test_a_value_apart_has_a_chart_of_its_own(charts_of):
    columns = {"t_s": [0, 1], "n": [1, 2]}
    found = charts_of((8, columns), (20, columns), axes=Axes("", (), ("k",)))
    assert [chart.name for chart in found] == [
        "churn-stale-n-k=8",
        "churn-stale-n-k=20",
    ]


def test_a_table_without_numbers_has_no_chart(charts_of):
    assert charts_of((8, {"t_s": [0, 1], "word": ["a", "b"]})) == []
    assert charts_of((8, {"t_s": [0, 1], "n": [None, None]})) == []


def test_lines_of_the_series_itself_put_runs_apart(charts_of):
    columns = {"t_s": [0] * 12, "role": list("abcdefghijkl"), "n": [1] * 12}
    found = charts_of((8, columns), (20, columns))
    assert [chart.name for chart in found] == [
        "churn-stale-n-k=8",
        "churn-stale-n-k=20",
    ]
    assert [len(chart.lines) for chart in found] == [12, 12]
