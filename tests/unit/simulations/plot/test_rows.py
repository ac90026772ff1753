"""Every run counts once, with its numbers."""

import msgspec

from simulations.plot.rows import latest, numbers, rows
from simulations.results import Result
from simulations.runs import Status


def result(**changes):
    line = Result(
        scenario="sample",
        backend="event",
        parameters={"seed": 1, "nodes": 10},
        seed=1,
        commit="abc",
        versions={},
        command="run sample",
        figures={"met": True, "total": 5},
    )
    return msgspec.structs.replace(line, **changes)


def test_only_numbers_are_drawn_also_those_within():
    figures = {"met": True, "n": 1, "s": "x", "list": [1], "in": {"p": 0.5}, "x": None}
    assert numbers(figures) == {"n": 1.0, "in.p": 0.5}


def test_the_seed_is_no_parameter():
    (row,) = rows([result()])
    assert (row.parameters, row.seed, row.figures) == ({"nodes": 10}, 1, {"total": 5.0})


def test_several_commits_are_told_apart():
    first, second = rows([result(), result(commit="")])
    assert (first.parameters["commit"], second.parameters["commit"]) == ("abc", "none")


def test_a_run_that_was_kept_twice_counts_once():
    again = result(figures={"met": True, "total": 7})
    assert latest([result(), again]) == [again]


def test_a_failure_does_not_replace_a_complete_run_but_is_replaced_by_one():
    failed = result(status=Status.FAILED, figures=None)
    assert latest([result(), failed]) == [result()]
    assert latest([failed, result()]) == [result()]
    assert rows([failed]) == []
