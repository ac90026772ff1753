"""`budget`: what nobody waits for waits; people are counted and never held back."""

import random

import pytest

from opnode.core.addresses import Endpoint
from opnode.protocols.rpc.budget import Budget, BudgetConfig

CONFIG = BudgetConfig(
    packets_per_s=10.0,
    packets_burst=100.0,
    endpoints_per_min=60.0,
    endpoints_burst=20.0,
    forget_s=120.0,
    background=0.5,
)
PEER = Endpoint("8.8.8.8", 4000)


def strangers(count, start=0):
    return [Endpoint("9.9.9.9", 1000 + start + number) for number in range(count)]


def test_a_fresh_budget_has_room():
    budget = Budget(CONFIG)
    assert budget.has_room(0.0)
    assert not budget.is_spent(0.0)
    assert budget.view(0.0).waits == 0


def test_half_the_packets_are_kept_for_people():
    budget = Budget(CONFIG)
    used = 0
    while budget.has_room(0.0):
        budget.spend(PEER, 0.0)
        used += 1
    assert used == pytest.approx(51, abs=1)


def test_half_the_new_endpoints_are_kept_for_people():
    budget = Budget(CONFIG)
    used = 0
    for endpoint in strangers(100):
        if not budget.has_room(0.0):
            break
        budget.spend(endpoint, 0.0)
        used += 1
    assert used == pytest.approx(11, abs=1)
    assert not budget.is_spent(0.0)


def test_an_endpoint_that_was_asked_lately_is_not_new():
    budget = Budget(CONFIG)
    for second in range(0, 600, 30):
        budget.spend(PEER, float(second))
    # Its mapping is kept alive, so only the first one was new.
    assert budget.view(30.0).endpoints_per_min_used <= 1
    assert budget.has_room(600.0)


def test_an_endpoint_is_new_again_once_its_mapping_is_gone():
    budget = Budget(CONFIG)
    budget.spend(PEER, 0.0)
    budget.spend(PEER, 300.0)
    assert budget.view(300.0).endpoints_per_min_used == 1


def test_private_and_loopback_destinations_cost_nothing():
    budget = Budget(CONFIG)
    for port in range(1, 1000):
        budget.spend(Endpoint("127.0.0.1", port), 0.0)
        budget.spend(Endpoint("192.168.1.1", port), 0.0)
    assert budget.has_room(0.0)
    assert budget.view(0.0).packets_per_s_used == 0


def test_room_comes_back_at_the_stated_pace():
    budget = Budget(CONFIG)
    for endpoint in strangers(15):
        budget.spend(endpoint, 0.0)
    room_at = budget.room_at()
    assert room_at == pytest.approx(5.0, abs=1.1)
    assert not budget.has_room(room_at - 0.01)
    assert budget.has_room(room_at)


def test_people_who_look_up_much_spend_the_budget_and_are_not_stopped():
    budget = Budget(CONFIG)
    for endpoint in strangers(1000):
        budget.spend(endpoint, 0.0)
    assert budget.is_spent(0.0)
    assert budget.view(0.0).endpoints_per_min_used == 1000
    # A storm is not paid for all day: two bursts later there is room again.
    assert budget.has_room(40.0 + 1.0)


def test_background_work_alone_never_passes_the_budget():
    rng = random.Random(1)
    budget = Budget(CONFIG)
    sent = 0
    for tick in range(6000):
        now = tick / 10
        if budget.has_room(now):
            budget.spend(Endpoint("9.9.9.9", rng.randrange(1, 60_000)), now)
            sent += 1
    minutes = 10
    # Half a burst at first; a port drawn twice within two minutes is not new.
    assert sent <= minutes * 60 + 10 + 10
    assert sent >= minutes * 60 - 60


def test_what_is_remembered_is_bounded():
    budget = Budget(BudgetConfig(remembered=100))
    for endpoint in strangers(10_000):
        budget.spend(endpoint, 0.0)
    assert len(budget._known) == 100


def test_the_view_states_the_budget_and_how_often_work_waited():
    budget = Budget(CONFIG)
    for endpoint in strangers(15):
        budget.spend(endpoint, 0.0)
    assert not budget.has_room(1.0)
    view = budget.view(1.0)
    assert (view.packets_per_s, view.endpoints_per_min) == (10.0, 60.0)
    assert view.packets_per_s_used == pytest.approx(15 / 60)
    assert view.is_short
    assert view.waits == 1


def test_the_last_minute_forgets_what_is_older():
    budget = Budget(CONFIG)
    for endpoint in strangers(15):
        budget.spend(endpoint, 0.0)
    assert 0 < budget.view(90.0).endpoints_per_min_used < 15
    assert budget.view(200.0).endpoints_per_min_used == 0


def test_strangers_who_ask_leave_room_for_the_contacts_that_we_have():
    budget = Budget(CONFIG)
    used = 0
    for endpoint in strangers(100):
        if not budget.has_room_for_strangers(0.0):
            break
        budget.spend(endpoint, 0.0)
        used += 1
    assert used == pytest.approx(6, abs=1)
    assert budget.has_room(0.0)
