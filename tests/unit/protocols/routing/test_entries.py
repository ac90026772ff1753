"""`entries`: an entry is the library's node, and knows its subnet and its packing."""

import random

from kademlia.node import Node

from opnode.core.addresses import Endpoint, pack
from opnode.core.ids import Contact, NodeId, node_id_of
from opnode.protocols.routing.entries import TableEntry, fits


def test_an_entry_has_the_librarys_numbers():
    made = NodeId(random.Random(7).randbytes(20))
    contact = Contact(made, Endpoint("10.0.0.7", 4000))
    entry = TableEntry(contact)
    library = Node(contact.node_id, *contact.endpoint)
    assert entry.long_id == library.long_id
    assert entry.same_home_as(library)
    assert entry.packed == contact.node_id + pack(contact.endpoint)


def test_only_public_addresses_bind_their_ids():
    good = Contact(node_id_of(bytes(32), "8.8.8.8"), Endpoint("8.8.8.8", 1))
    assert fits(good)
    assert not fits(Contact(good.node_id, Endpoint("9.9.9.9", 1)))
    assert fits(Contact(good.node_id, Endpoint("10.9.9.9", 1)))
