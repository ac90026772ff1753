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


def test_it_survives_the_way_to_a_worker():
    here = Code.here()
    assert msgspec.json.decode(msgspec.json.encode(here), type=Code) == here
