"""A NAT with room for few sessions does not keep its users from calling."""

import pytest

from simulations.runs import run
from simulations.scenarios.nat_table import NatTableScenario


@pytest.mark.parametrize("drops_oldest", [False, True])
def test_introductions_succeed_behind_a_table_of_64_sessions(checked, drops_oldest):
    checked(NatTableScenario(servers=12, users=6, calls=30, drops_oldest=drops_oldest))


def test_introductions_fail_where_a_table_has_no_room_at_all():
    outcome = run(NatTableScenario(servers=12, users=6, calls=10, places=3))
    assert not outcome.figures.met
    assert outcome.figures.refused > 0


def test_whole_nodes_with_their_keys_do_the_same_again():
    scenario = NatTableScenario(servers=12, users=6, calls=10)
    assert run(scenario).digest == run(scenario).digest
    other = NatTableScenario(servers=12, users=6, calls=10, seed=2)
    assert run(other).digest != run(scenario).digest
