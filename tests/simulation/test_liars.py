"""Records are found although nodes lie, and no lie is believed."""

import pytest

from opnode.testing.adversaries import Lie
from simulations.scenarios.liars import LiarsScenario


@pytest.mark.parametrize("share", [pytest.param(0.3, marks=pytest.mark.slow), 0.5])
def test_readers_get_the_newest_record_though_many_nodes_lie(checked, share):
    checked(LiarsScenario(nodes=60, seed=1, share=share, records=15, askers=15))


@pytest.mark.slow
@pytest.mark.parametrize("lie", [lie.value for lie in Lie])
def test_readers_get_the_newest_record_whatever_a_third_of_the_nodes_does(checked, lie):
    checked(LiarsScenario(nodes=100, seed=1, lie=lie, records=25, askers=20))
