"""Lookups and tables that are drawn, beside the shipped ones."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opnode.core.addresses import Endpoint
from opnode.core.ids import Contact, NodeId
from opnode.protocols.routing.table import Table
from simulations.model.ids import ID_BITS, sorted_ids
from simulations.people.routes import Routes


@given(st.integers(1, 200), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_nearest_are_the_nearest(count, seed):
    rng = random.Random(seed)
    ids = sorted_ids(count, rng)
    target = rng.getrandbits(ID_BITS)
    found = Routes(ids, rng).nearest(target)
    assert found == sorted(ids, key=target.__xor__)[:20]


@pytest.mark.parametrize("count", [12, 24, 60])
def test_a_lookup_asks_all_of_the_region_once(count):
    rng = random.Random(3)
    routes = Routes(sorted_ids(count, rng), rng)
    target = rng.getrandbits(ID_BITS)
    asked = routes.lookup(target).nodes
    assert set(routes.nearest(target)) <= set(asked)
    assert len(set(asked)) == len(asked)


def test_tables_have_the_size_of_the_shipped_ones():
    rng = random.Random(5)
    ids = sorted_ids(600, rng)
    own = ids[100]
    table = Table(NodeId(_wide(own)))
    for number, one in enumerate(ids):
        if one != own:
            endpoint = Endpoint(f"10.0.{number >> 8}.{number & 255}", 1)
            table.heard(Contact(NodeId(_wide(one)), endpoint), 0.0)
    expected = Routes(ids, rng).table_size(own)
    assert len(table) == pytest.approx(expected.contacts, rel=0.05)


def _wide(one):
    """The same prefix in an id of 20 bytes."""
    return one.to_bytes(8, "big") + bytes(12)
