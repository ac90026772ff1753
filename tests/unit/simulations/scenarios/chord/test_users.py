import random

from opnode.protocols.nat.odds import NatType
from simulations.model.sessions import Sessions
from simulations.scenarios.chord.users import Box, Census, populate

CENSUS = Census(
    users=300, firewalled=0.7, home=3, sessions=Sessions(scale_s=600.0), until_s=3600.0
)


def test_a_passing_session_ends_a_timer_after_its_last_packet():
    box = Box(NatType.PORT, 30.0, 64)
    assert box.pass_through(1, 2, 0.0)
    assert box.pass_through(1, 2, 20.0)
    assert box.sessions(49.0) == 1
    assert box.sessions(50.0) == 0


def test_a_full_table_refuses_what_is_new_and_lets_the_known_through():
    box = Box(NatType.PORT, 30.0, 2)
    assert box.keep(0.0)
    assert box.pass_through(1, 2, 0.0)
    assert not box.keep(1.0)
    assert not box.pass_through(1, 3, 1.0)
    assert box.pass_through(1, 2, 1.0)
    assert (box.refused, box.most) == (2, 2)
    assert box.keep(31.0)


def test_whoever_leaves_is_followed_at_once_so_that_their_number_stays():
    population = populate(CENSUS, random.Random(1))
    for moment in (0.0, 1000.0, 3599.0):
        there = [x for x in population.lives if x.since_s <= moment < x.until_s]
        assert len(there) == CENSUS.users
    assert [life.number for life in population.lives] == sorted(
        range(len(population.lives))
    )


def test_the_firewalled_share_is_of_homes_and_members_of_one_share_its_nat():
    population = populate(CENSUS, random.Random(1))
    assert sum(nat is not NatType.OPEN for nat, _ in population.homes) == 70
    assert {life.home for life in population.lives} == set(range(100))
