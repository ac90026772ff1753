"""`copies`: which nodes hold which records, by the shipped policy of holders."""

import numpy as np
import pytest

from simulations.backends.event.checks import CheckLaw
from simulations.backends.event.copies import CarePolicy, Copies
from simulations.backends.event.lives import Lives
from simulations.backends.event.population import distinct_ids
from simulations.model.durations import HOUR_S
from simulations.model.sessions import Sessions


def generator(seed=1):
    return np.random.Generator(np.random.PCG64(seed))


def steady(count, records, *, newcomers=0, least=0, **policy):
    """Nodes that stay, some who come after 100 s, and records put at 0."""
    draws = generator()
    ids = distinct_ids(draws, count + newcomers)
    starts = np.concatenate([np.full(count, -HOUR_S), np.full(newcomers, 100.0)])
    sessions = np.arange(len(ids)), starts, np.full(len(ids), 1e6)
    lives = Lives(ids, sessions, CheckLaw(horizon_s=2e6))
    lives.step(0.0)
    keys = draws.integers(0, 1 << 64, records, dtype=np.uint64)
    copies = Copies(lives, keys, CarePolicy(**policy), least_nodes=least or count)
    copies.put()
    return lives, keys, copies


def run_to(copies, end_s, begin_s=0.0):
    for until_s in np.arange(begin_s + 60.0, end_s + 1, 60.0):
        copies.step(float(until_s))


def test_a_put_reaches_the_k_closest_nodes_and_they_stand_nearest_first():
    lives, keys, copies = steady(500, 20)
    for record, key in enumerate(keys):
        nearest = np.argsort(lives.ids ^ key)[:20]
        assert copies.holders_of(record).tolist() == nearest.tolist()
    assert (copies.look().close == 20).all()


def test_newcomers_are_given_what_they_are_near_enough_for():
    _, _, copies = steady(200, 50, newcomers=20, puts_again=False)
    run_to(copies, 300.0)
    look = copies.look()
    assert copies.work.given > 0
    assert (look.close == 20).all()
    assert (look.holders > 20).any()


def test_nobody_is_given_anything_where_holders_do_not_give():
    _, _, copies = steady(200, 50, newcomers=20, gives=False, puts_again=False)
    run_to(copies, 300.0)
    assert copies.work.given == 0
    assert (copies.look().close < 20).any()


def test_records_that_nobody_put_are_put_again_about_once_an_hour():
    _, _, copies = steady(200, 50, patience=100)
    run_to(copies, 0.9 * HOUR_S)
    assert copies.work.puts == 0
    run_to(copies, 10 * HOUR_S, 0.9 * HOUR_S)
    puts_per_record_h = copies.work.puts / 50 / 10
    assert 0.6 < puts_per_record_h < 1.2


def test_each_holder_relies_on_others_only_for_so_long():
    _, _, copies = steady(200, 50, patience=2)
    run_to(copies, 10 * HOUR_S)
    assert copies.work.puts / 50 / 10 > 4


def test_two_hours_after_half_died_every_record_has_all_its_holders():
    lives, _, copies = steady(1000, 100, least=500)
    copies.step(60.0)
    copies.kill(generator(2).permutation(len(lives.ids))[:500])
    at_once = copies.look()
    assert at_once.close.mean() == pytest.approx(10, abs=1)
    run_to(copies, 3 * HOUR_S, 60.0)
    assert (copies.look().close == 20).all()


def test_without_care_a_record_is_lost_when_all_its_holders_left():
    law = Sessions()
    lives = Lives.drawn(2000, 10 * HOUR_S, law, generator())
    lives.step(0.0)
    keys = generator(3).integers(0, 1 << 64, 2000, dtype=np.uint64)
    policy = CarePolicy(k=3, gives=False, puts_again=False)
    copies = Copies(lives, keys, policy, least_nodes=2000)
    copies.put()
    copies.step(10 * HOUR_S)
    lost = (copies.look().holders == 0).mean()
    assert lost == pytest.approx(
        (1 - law.residual_survival(10 * HOUR_S)) ** 3, abs=0.05
    )
