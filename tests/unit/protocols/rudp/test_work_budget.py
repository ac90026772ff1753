"""`work_budget`: what moves nothing is limited, what moves bytes pays for itself."""

import pytest

from opnode.protocols.rudp.violation import CloseCode, PeerViolationError
from opnode.protocols.rudp.work_budget import PACKET_WORK, WorkBudget


def make():
    budget = WorkBudget(burst=100, per_s=10)
    budget.settle(5.0)
    return budget


def test_a_burst_may_be_spent_at_once_and_not_a_unit_more():
    budget = make()
    budget.spend(100)
    budget.settle(5.0)
    budget.spend(1)
    with pytest.raises(PeerViolationError) as caught:
        budget.settle(5.0)
    assert caught.value.code is CloseCode.EXCESSIVE_WORK


def test_time_brings_units_back_up_to_the_burst():
    budget = make()
    budget.spend(100)
    budget.settle(10.0)
    assert budget.left == 50
    budget.settle(1000.0)
    assert budget.left == 100


def test_an_acknowledgement_of_something_pays_for_itself():
    budget = make()
    budget.spend(50)
    budget.on_ack(1200, 1, ranges=64)
    assert budget.left == 50 + 4 + 9


def test_an_acknowledgement_of_nothing_costs_its_ranges():
    budget = make()
    budget.on_ack(0, 0, ranges=64)
    assert budget.left == 36


def test_one_acknowledgement_for_each_packet_is_free_and_not_one_more():
    budget = make()
    budget.spend(50)
    budget.on_ack(0, 3, ranges=1)
    for _ in range(2):
        budget.spend(PACKET_WORK)
        budget.on_ack(0, 0, ranges=20)
    assert budget.left == 50 + PACKET_WORK
    budget.on_ack(0, 0, ranges=20)
    assert budget.left == 30 + PACKET_WORK


def test_acknowledgements_of_nothing_are_not_saved_up_for_ever():
    budget = make()
    budget.on_ack(0, 1_000_000, ranges=1)
    for _ in range(4096):
        budget.on_ack(0, 0, ranges=64)
    before = budget.left
    budget.on_ack(0, 0, ranges=64)
    assert budget.left == before - 64
