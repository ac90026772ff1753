"""The replay memory: bounded for each caller, deaf to time."""

from opnode.protocols.introductions.replay import ReplayMemory


def test_an_offer_is_remembered_for_its_own_caller_only():
    memory = ReplayMemory(max_callers=2, per_caller=2)
    memory.remember(b"alice", [b"offer"])
    assert memory.has(b"alice", b"offer")
    assert not memory.has(b"bob", b"offer")


def test_a_caller_that_sends_many_pushes_out_its_own_oldest_only():
    memory = ReplayMemory(max_callers=2, per_caller=2)
    memory.remember(b"bob", [b"quiet"])
    memory.remember(b"alice", [b"1", b"2", b"3"])
    assert not memory.has(b"alice", b"1")
    assert memory.has(b"alice", b"2")
    assert memory.has(b"alice", b"3")
    assert memory.has(b"bob", b"quiet")


def test_repeating_an_offer_pushes_nothing_out():
    memory = ReplayMemory(max_callers=2, per_caller=2)
    memory.remember(b"alice", [b"1", b"2"])
    memory.remember(b"alice", [b"2", b"2"])
    assert memory.has(b"alice", b"1")


def test_the_caller_heard_of_longest_ago_is_forgotten_first():
    memory = ReplayMemory(max_callers=2, per_caller=2)
    memory.remember(b"alice", [b"1"])
    memory.remember(b"bob", [b"1"])
    memory.remember(b"alice", [b"2"])
    memory.remember(b"carol", [b"1"])
    assert len(memory) == 2
    assert memory.has(b"alice", b"1")
    assert not memory.has(b"bob", b"1")
