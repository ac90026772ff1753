"""`buckets`: who steps back, who steps in and who waits."""

from collections import Counter

import pytest

from opnode.core.addresses import Endpoint
from opnode.core.ids import Contact, NodeId, node_id_of
from opnode.protocols.routing.buckets import Bucket
from opnode.protocols.routing.config import RoutingConfig
from opnode.protocols.routing.entries import TableEntry

TOP = 2**160 - 1


def entry(number, host=None, now=0.0):
    host = host or f"10.0.0.{number}"
    node_id = node_id_of(bytes([number]) * 32, host)
    return TableEntry(Contact(NodeId(node_id), Endpoint(host, 4000)), now)


@pytest.fixture
def groups():
    return Counter()


@pytest.fixture
def bucket(groups):
    return Bucket(0, TOP, RoutingConfig(k=3, replacements=4, subnet_cap=2), groups)


def test_a_newcomer_is_nobodys_senior(bucket):
    for number in range(3):
        bucket.enter(entry(number, now=1.0))
    assert bucket.junior_to(entry(9, now=1.0)) is None
    old = entry(9, now=1.0)
    old.known_at = 0.5
    assert bucket.junior_to(old) is not None


def test_whoever_waited_longest_goes_when_too_many_wait(bucket):
    first = entry(0)
    assert bucket.wait(first) is None
    for number in range(1, 4):
        assert bucket.wait(entry(number)) is None
    assert bucket.wait(entry(4)) is first
    assert len(bucket.replacement_nodes) == 4


def test_one_subnet_cannot_take_all_places_of_those_who_wait(bucket):
    crowd = [entry(number, f"8.8.8.{number}") for number in range(1, 4)]
    assert bucket.wait(crowd[0]) is None
    assert bucket.wait(crowd[1]) is None
    assert bucket.wait(crowd[2]) is crowd[0]


def test_places_of_a_subnet_are_counted_for_the_whole_table(bucket, groups):
    one = entry(1, "8.8.8.1")
    bucket.enter(one)
    assert groups == {one.group: 1}
    groups[one.group] = 10
    assert bucket.is_capped(entry(2, "8.8.8.2"))
    assert not bucket.is_capped(entry(2, "8.8.8.2"), leaving=one)
    groups[one.group] = 1
    bucket.leave(one)
    assert groups == {}


def test_halves_keep_who_is_in_and_who_waits(bucket):
    inside = [entry(number) for number in range(3)]
    for held in inside:
        bucket.enter(held)
    bucket.wait(entry(5))
    bucket.last_updated = 7.0
    one, two = bucket.halves()
    assert {*one.nodes, *two.nodes} == {held.id for held in inside}
    assert len(one.replacement_nodes) + len(two.replacement_nodes) == 1
    assert all(held.long_id <= one.range[1] for held in one.nodes.values())
    assert one.last_updated == two.last_updated == 7.0
    assert one.depth() == 1


def test_a_view_of_an_empty_bucket_and_of_a_full_one(bucket):
    assert bucket.view(5.0) == (0, 0, 0, 0, 0, 0.0)
    for number in range(3):
        bucket.enter(entry(number, now=number))
    doubtful = entry(0)
    bucket.nodes[doubtful.id].is_sure = False
    bucket.wait(entry(7))
    assert bucket.view(5.0) == (0, 0, 3, 2, 1, 5.0)
    upper = Bucket(2**159, TOP, RoutingConfig())
    assert upper.view(0.0)[:2] == (1, 1)
