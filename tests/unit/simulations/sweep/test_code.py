"""Two processes run the same code, or it is said what differs."""

import msgspec

from simulations.sweep.code import Code


def test_the_same_code_differs_in_nothing():
    assert Code.here().differences(Code.here()) == []


def test_each_difference_is_named():
    ours = Code(sources="aa", python="3.11", libraries={"numpy": "2", "trio": "1"})
    theirs = Code(sources="bb", python="3.12", libraries={"numpy": "1"})
    assert ours.differences(theirs) == [
        "Python 3.12 instead of 3.11",
        "other sources (bb instead of aa)",
        "numpy 1 instead of 2",
        "trio none instead of 1",
    ]


def test_a_scenario_of_ones_own_counts_with_what_is_in_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_dice.py").write_text("sides = 6")
    before = Code.here("own_dice")
    assert before != Code.here()
    (tmp_path / "own_dice.py").write_text("sides = 8")
    assert Code.here("own_dice") != before


def test_a_scenario_of_ours_counts_once():
    assert Code.here("simulations.scenarios.lookup") == Code.here()


def test_it_survives_the_way_to_a_worker():
    here = Code.here()
    assert msgspec.json.decode(msgspec.json.encode(here), type=Code) == here
