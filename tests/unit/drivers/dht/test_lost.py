"""`lost`: who is remembered of those that fell silent, and who is asked once more."""

import random

from opnode.core.addresses import Endpoint
from opnode.core.ids import Contact, NodeId
from opnode.drivers.dht.config import DhtConfig
from opnode.drivers.dht.lost import Lost
from opnode.protocols.routing import TableEntry

CONFIG = DhtConfig(max_lost=3)
PAUSE_S = 1.25 * CONFIG.lost_check_s


def lost_ones(config=CONFIG):
    return Lost(config, random.Random(1), 0.0)


def entry(number, *, known_for_s, heard_at=10_000.0):
    endpoint = Endpoint(f"10.0.0.{number}", 4000)
    made = TableEntry(Contact(NodeId(bytes([number]) * 20), endpoint), heard_at)
    made.known_at = heard_at - known_for_s
    return made


def test_whoever_was_known_longest_is_remembered_and_the_last_comes_first():
    lost = lost_ones()
    for number, known_for_s in enumerate([900, 5, 700, 800]):
        lost.add(entry(number, known_for_s=known_for_s))
    assert [one.contact.node_id[0] for one in lost.entries()] == [3, 2, 0]


def test_one_is_asked_now_and_then_and_nobody_in_between():
    lost = lost_ones()
    lost.add(entry(1, known_for_s=60))
    assert lost.due(0.0) is None
    assert lost.due(PAUSE_S).node_id[0] == 1
    assert lost.due(PAUSE_S + 1) is None
    assert lost.due(2 * PAUSE_S + 1) is not None


def test_whoever_answers_again_is_not_asked():
    lost = lost_ones()
    one = entry(1, known_for_s=60)
    lost.add(one)
    lost.found(one.contact.endpoint)
    assert lost.due(PAUSE_S) is None


def test_whoever_was_silent_for_days_is_forgotten():
    lost = lost_ones()
    lost.add(entry(1, known_for_s=60))
    lost.add(entry(2, known_for_s=60, heard_at=20_000.0))
    assert lost.due(15_000.0 + CONFIG.lost_kept_s).node_id[0] == 2
    assert len(lost.entries()) == 1


def test_each_of_them_gets_its_turn():
    lost = lost_ones(DhtConfig())
    for number in range(8):
        lost.add(entry(number, known_for_s=60))
    asked = {lost.due(turn * PAUSE_S).node_id[0] for turn in range(1, 100)}
    assert asked == set(range(8))
