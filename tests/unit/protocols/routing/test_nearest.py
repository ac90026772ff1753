"""`nearest`: exact for every set of ids and every target."""

import random

import pytest

from opnode.core.addresses import Endpoint
from opnode.core.ids import Contact, NodeId
from opnode.protocols.routing.entries import TableEntry
from opnode.protocols.routing.nearest import NearestIndex


def entry(number):
    return TableEntry(
        Contact(NodeId(number.to_bytes(20, "big")), Endpoint("10.0.0.1", 1))
    )


def ids(rng, count, bits):
    """Ids of which many share a long prefix, as around our own."""
    shift = rng.choice([0, bits - 8, bits - 60])
    return {rng.getrandbits(bits) >> rng.randrange(shift + 1) for _ in range(count)}


@pytest.mark.parametrize("seed", range(40))
def test_the_nearest_are_those_of_a_full_sort(seed):
    rng = random.Random(seed)
    index = NearestIndex()
    held = ids(rng, rng.choice([0, 1, 19, 20, 21, 60, 500]), 160)
    for number in held:
        index.add(entry(number))
    for _ in range(60):
        target = rng.choice([rng.getrandbits(160), *sorted(held)[:1], 0, 2**160 - 1])
        count = rng.choice([1, 2, 3, 8, 20, 40])
        found = [e.long_id for e in index.nearest(target, count)]
        assert found == sorted(held, key=lambda number: number ^ target)[:count]


def test_an_entry_is_held_once_and_gone_when_discarded():
    index = NearestIndex()
    first, second = entry(5), entry(5)
    index.add(first)
    index.add(second)
    assert len(index) == 1
    assert index.nearest(5, 3) == [second]
    index.discard(first)
    index.discard(first)
    assert index.nearest(5, 3) == []
