"""The scenario that the tutorial shows."""

from simulations.example import LastHolder
from simulations.registry import load
from simulations.runs import run


def test_the_example_is_run_by_its_place_and_repeats_itself():
    kind = load("simulations.example:LastHolder")
    assert kind is LastHolder
    first, again = run(kind(holders=3)), run(kind(holders=3))
    assert first.digest == again.digest


def test_the_more_holders_the_later_the_last_one_is_gone():
    medians = [run(LastHolder(holders=n)).figures.gone_h_median for n in (1, 5, 20)]
    assert medians == sorted(medians)
    assert medians[2] > 3 * medians[0]
