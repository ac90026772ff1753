"""Columns find their roles by what tells one row from the next."""

from types import SimpleNamespace

import polars
import pytest

from simulations.plot.columns import Problem, Roles, roles_of, tables
from simulations.plot.rows import Row


@pytest.mark.parametrize(
    ("columns", "roles"),
    [
        ({"t_s": [0, 1], "n": [1, 1]}, Roles("t_s", (), ("n",))),
        ({"hops": [0, 1], "lookups": [5, 5]}, Roles("hops", (), ("lookups",))),
        (
            {"t_s": [0, 0], "role": ["a", "b"], "n": [1, 1]},
            Roles("t_s", ("role",), ("n",)),
        ),
        (
            {"k": [8, 8, 8], "kind": ["x"] * 3, "stale": [0.0, 0.1, 0.2], "s": [1] * 3},
            Roles("stale", ("k", "kind"), ("s",)),
        ),
        (
            {"t_s": [0, 0, 0], "n": [1, 1, 2], "word": ["a", "a", "b"]},
            Roles("t_s", ("word",), ("n",)),
        ),
        ({"t_s": [0, 0], "n": [1, 2]}, Roles("t_s", (), ("n",))),
        ({"word": ["a", "b"], "n": [1, 2]}, Roles("", ("word",), ("n",))),
    ],
)
def test_roles(columns, roles):
    assert roles_of(polars.DataFrame(columns)) == roles


def test_who_is_looked_at_is_no_line_of_its_own():
    nodes = list(range(50))
    columns = {"t_s": [0] * 50, "node": nodes, "bytes": nodes}
    assert roles_of(polars.DataFrame(columns)) == Roles("t_s", (), ("node", "bytes"))


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "junk").write_text("junk")
    rows = [
        Row({}, 1, {}, SimpleNamespace(series={"stale": place}))
        for place in ("junk", "none")
    ]
    found = list(tables(tmp_path, rows, "stale"))
    assert [type(one) for one in found] == [Problem, Problem]
    assert [one.place for one in found] == ["junk", "none"]
