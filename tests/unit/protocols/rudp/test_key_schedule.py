"""Roots and keys: what both ends agree on, and what nobody can derive."""

from itertools import combinations

from opnode.core.crypto import TransportKeys, extract
from opnode.protocols.rudp.key_schedule import (
    CONFIRMATION_SIZE,
    KEY_SIZE,
    confirmation,
    first_root,
    hybrid_root,
    next_root,
    packet_key,
)
from opnode.testing.pair import seeded_keys

SECRET = bytes(range(32))
TRANSCRIPT = bytes(32)


def test_both_ends_begin_with_the_same_root():
    ours, theirs = seeded_keys()
    root = first_root(ours, initiator=True)
    assert root == first_root(theirs, initiator=False)
    assert root == extract(ours.handshake_hash, ours.send + ours.receive)


def test_every_part_of_the_handshake_s_keys_is_in_the_first_root():
    ours, _ = seeded_keys()
    keys = [
        ours,
        TransportKeys(b"x" * 32, ours.receive, ours.handshake_hash),
        TransportKeys(ours.send, b"x" * 32, ours.handshake_hash),
        TransportKeys(ours.send, ours.receive, b"x" * 32),
    ]
    roots = [first_root(one, initiator=True) for one in keys]
    assert all(left != right for left, right in combinations(roots, 2))


def test_no_two_keys_of_a_connection_are_the_same():
    ours, _ = seeded_keys()
    root = first_root(ours, initiator=True)
    found = [ours.send, ours.receive]
    for _ in range(4):
        found += [
            root,
            packet_key(root, by_initiator=True),
            packet_key(root, by_initiator=False),
        ]
        root = next_root(root)
    assert all(len(key) == KEY_SIZE for key in found)
    assert len(set(found)) == len(found)


def test_the_hybrid_root_needs_the_old_root_the_secret_and_the_messages():
    root = hybrid_root(b"r" * 32, SECRET, TRANSCRIPT)
    others = [
        hybrid_root(b"s" * 32, SECRET, TRANSCRIPT),
        hybrid_root(b"r" * 32, SECRET[::-1], TRANSCRIPT),
        hybrid_root(b"r" * 32, SECRET, b"t" * 32),
        next_root(b"r" * 32),
    ]
    assert len(root) == KEY_SIZE
    assert root not in others


def test_the_confirmation_tells_roots_apart_and_is_no_key():
    first, second = confirmation(b"r" * 32), confirmation(b"s" * 32)
    assert len(first) == CONFIRMATION_SIZE
    assert first != second
    assert not packet_key(b"r" * 32, by_initiator=True).startswith(first)
