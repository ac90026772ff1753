"""Both ends know all ids of both, and an id tells nothing of another."""

import pytest

from opnode.protocols.rudp.connection_ids import MAX_IDS, ConnectionIds
from opnode.protocols.rudp.packet import MAX_NUMBER_OFFSET
from opnode.testing.pair import seeded_keys

INITIATOR, RESPONDER = seeded_keys()


@pytest.mark.parametrize("of_initiator", [True, False])
def test_both_ends_derive_the_same_ids(of_initiator):
    at_initiator = ConnectionIds(
        INITIATOR, of_initiator=of_initiator, ours=of_initiator
    )
    at_responder = ConnectionIds(
        RESPONDER, of_initiator=of_initiator, ours=not of_initiator
    )
    assert [at_initiator[index] for index in (3, 0, 1)] == [
        at_responder[index] for index in (3, 0, 1)
    ]


def test_ids_offsets_and_the_two_directions_differ():
    ids = ConnectionIds(INITIATOR, of_initiator=True, ours=True)
    others = ConnectionIds(INITIATOR, of_initiator=False, ours=False)
    found = [ids[index] for index in range(100)] + [
        others[index] for index in range(100)
    ]
    assert len({one.wire_id for one in found}) == 200
    assert len({one.offset for one in found}) == 200
    assert all(0 <= one.offset <= MAX_NUMBER_OFFSET for one in found)
    assert len({one.prefix[5:] for one in found[:100]}) == 100


@pytest.mark.parametrize("index", [-1, MAX_IDS])
def test_an_index_out_of_bounds_is_refused(index):
    with pytest.raises(IndexError):
        ConnectionIds(INITIATOR, of_initiator=True, ours=True)[index]
