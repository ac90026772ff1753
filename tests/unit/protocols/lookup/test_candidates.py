"""`candidates`: whose subnet counts."""

from opnode.core.addresses import Endpoint
from opnode.core.ids import Contact, NodeId
from opnode.protocols.lookup.candidates import Candidate, CandidateState


def group_of(host):
    contact = Contact(NodeId(bytes(20)), Endpoint(host, 1))
    return Candidate(contact, 0, 0, None).group


def test_public_addresses_are_grouped_and_private_ones_are_not():
    assert group_of("8.8.8.1") == group_of("8.8.8.200") != group_of("8.8.9.1")
    assert group_of("2001:4860:1:2::1") == group_of("2001:4860:1:3::1")
    assert group_of("10.0.0.1") is None
    assert group_of("127.0.0.1") is None


def test_a_candidate_begins_new():
    contact = Contact(NodeId(bytes(20)), Endpoint("10.0.0.1", 1))
    assert Candidate(contact, 0, 0, None).state is CandidateState.NEW
