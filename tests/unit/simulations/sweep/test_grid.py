"""The words of a sweep name each value once, and never too many."""

import pytest

from opnode.core.errors import ConfigError
from simulations.sweep.grid import Axis, GridConfig, axis, combinations, seeds

SMALL = GridConfig(most_runs=10)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nodes=5", ("5",)),
        ("nodes=10,20, 30", ("10", "20", "30")),
        ("nodes=1..4", ("1", "2", "3", "4")),
        ("nodes=100..300..100", ("100", "200", "300")),
        ("nodes=0..0.3..0.1", ("0.0", "0.1", "0.2", "0.3")),
        ("nodes=1..3,10", ("1", "2", "3", "10")),
        ("nodes=full,port;port", ("full,port", "port")),
    ],
)
def test_values_are_read_in_the_order_they_are_written(text, words):
    assert axis(text, SMALL) == Axis("nodes", words)


def test_a_parameter_may_be_written_as_its_option():
    assert axis("dead-share=1", SMALL).name == "dead_share"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nodes",
        "=1",
        "nodes=",
        "nodes=1,,2",
        "nodes=1,1",
        "nodes=3..1",
        "nodes=1..0",
        "nodes=1..5..0",
        "nodes=1..11",
        "nodes=1..99999999999",
        "a b=1",
    ],
)
def test_words_that_name_no_values_are_refused(text):
    with pytest.raises(ConfigError, match="--vary"):
        axis(text, SMALL)


@pytest.mark.parametrize("text", ["", "a", "-1", "1,1", "1.5", "1..11"])
def test_what_is_no_seed_is_refused(text):
    with pytest.raises(ConfigError, match="--seeds"):
        seeds(text, SMALL)


def test_every_combination_comes_with_every_seed():
    axes = [Axis("a", ("1", "2")), Axis("b", ("x",))]
    assert combinations(axes, seeds("1..2", SMALL), SMALL) == [
        ({"a": "1", "b": "x"}, 1),
        ({"a": "1", "b": "x"}, 2),
        ({"a": "2", "b": "x"}, 1),
        ({"a": "2", "b": "x"}, 2),
    ]


def test_more_runs_than_the_bound_are_refused_before_they_are_made():
    axes = [axis("a=1..5", SMALL)]
    with pytest.raises(ConfigError, match="15 runs"):
        combinations(axes, (1, 2, 3), SMALL)


def test_a_parameter_that_varies_twice_is_refused():
    with pytest.raises(ConfigError, match="a twice"):
        combinations([Axis("a", ("1",)), Axis("a", ("2",))], (1,), SMALL)
