"""`lookup`: whom it asks in which order, and that it ends with the region known."""

import random

from opnode.core.addresses import Endpoint
from opnode.core.ids import Contact, NodeId, distance, node_id_of
from opnode.protocols.lookup.config import LookupConfig
from opnode.protocols.lookup.lookup import Lookup
from opnode.protocols.lookup.region import Region

TARGET = bytes(20)


def contact_at(place, port=4000):
    """A contact whose distance to the target is ``place``."""
    return Contact(NodeId(place.to_bytes(20)), Endpoint("10.0.0.1", port))


def contacts_at(*places):
    return [contact_at(place) for place in places]


def lookup_from(seeds, config=None, radius=None, suspects=()):
    return Lookup(seeds, Region(TARGET, radius), config, suspects=suspects)


def ask(lookup):
    """Who is asked next, without the rest of the questions."""
    return [query.contact for query in lookup.next_queries()]


def drain(lookup, knows):
    """Answer everything with what ``knows`` says; returns the queries in order."""
    asked = []
    while queries := ask(lookup):
        for contact in queries:
            asked.append(contact)
            lookup.heard(contact, knows(contact))
    return asked


def test_it_asks_alpha_at_once_nearest_first():
    lookup = lookup_from(contacts_at(1, 2, 3, 4, 5))
    assert ask(lookup) == contacts_at(1, 2, 3)
    assert ask(lookup) == []


def test_each_answer_frees_one_place_without_waiting_for_a_round():
    lookup = lookup_from(contacts_at(10, 11, 12, 13), LookupConfig(paths=1))
    lookup.next_queries()
    lookup.heard(contact_at(12), contacts_at(1))
    assert ask(lookup) == contacts_at(1)


def test_nobody_is_asked_twice():
    lookup = lookup_from(contacts_at(1, 2))
    asked = drain(lookup, lambda _: contacts_at(1, 2, 3))
    assert sorted(asked) == contacts_at(1, 2, 3)
    assert lookup.asked == 3


def test_it_is_not_finished_because_the_nearest_few_answered():
    config = LookupConfig(k=4, alpha=1)
    lookup = lookup_from(contacts_at(1, 2, 3, 40), config)
    for place in (1, 2, 3):
        assert ask(lookup) == contacts_at(place)
        lookup.heard(contact_at(place), [])
        assert not lookup.finished
    assert ask(lookup) == contacts_at(40)
    # The farthest of the k knows one nearer than itself: that is why it is asked.
    lookup.heard(contact_at(40), contacts_at(4))
    assert not lookup.finished
    assert ask(lookup) == contacts_at(4)
    lookup.heard(contact_at(4), [])
    assert lookup.finished
    assert lookup.closest() == contacts_at(1, 2, 3, 4)


def test_queries_beyond_the_k_closest_hold_nothing_up():
    config = LookupConfig(k=2, alpha=3)
    lookup = lookup_from(contacts_at(50, 60), config)
    lookup.next_queries()
    lookup.heard(contact_at(50), contacts_at(1, 2))
    assert ask(lookup) == contacts_at(1, 2)
    lookup.heard(contact_at(1), [])
    lookup.heard(contact_at(2), [])
    assert lookup.finished


def test_a_failed_contact_is_replaced_by_the_next_nearest():
    config = LookupConfig(k=2, alpha=2)
    lookup = lookup_from(contacts_at(1, 2, 3), config)
    lookup.next_queries()
    lookup.failed(contact_at(1))
    assert ask(lookup) == contacts_at(3)
    lookup.heard(contact_at(2), [])
    lookup.heard(contact_at(3), [])
    assert lookup.finished
    assert lookup.closest() == contacts_at(2, 3)


def test_a_straggler_frees_its_place_and_does_not_block_the_end():
    config = LookupConfig(k=2, alpha=1, alpha_most=1)
    lookup = lookup_from(contacts_at(1, 2, 3), config)
    assert ask(lookup) == contacts_at(1)
    lookup.slow(contact_at(1))
    assert lookup.has_stragglers
    assert ask(lookup) == contacts_at(2)
    lookup.heard(contact_at(2), [])
    assert ask(lookup) == contacts_at(3)
    lookup.heard(contact_at(3), [])
    assert lookup.finished
    assert lookup.closest() == contacts_at(2, 3)


def test_a_late_answer_still_counts():
    config = LookupConfig(k=2, alpha=1, alpha_most=1)
    lookup = lookup_from(contacts_at(1, 2), config)
    lookup.next_queries()
    lookup.slow(contact_at(1))
    lookup.next_queries()
    lookup.heard(contact_at(1), contacts_at(0))
    assert ask(lookup) == []
    lookup.heard(contact_at(2), [])
    assert ask(lookup) == contacts_at(0)
    lookup.heard(contact_at(0), [])
    assert not lookup.has_stragglers
    assert lookup.closest() == contacts_at(0, 1)


def test_while_nobody_answered_stragglers_are_waited_for():
    lookup = lookup_from(contacts_at(1))
    lookup.next_queries()
    lookup.slow(contact_at(1))
    assert not lookup.finished
    lookup.failed(contact_at(1))
    assert lookup.finished
    assert lookup.closest() == []


def test_without_seeds_it_is_finished():
    lookup = lookup_from([])
    assert ask(lookup) == []
    assert lookup.finished


def test_news_of_contacts_it_does_not_know_is_ignored():
    lookup = lookup_from(contacts_at(1))
    lookup.slow(contact_at(1))
    lookup.slow(contact_at(9))
    lookup.failed(contact_at(9))
    lookup.heard(contact_at(9), contacts_at(2))
    assert ask(lookup) == contacts_at(1)


def test_one_id_claimed_for_two_addresses_counts_once():
    lookup = lookup_from([contact_at(1), contact_at(1, port=9)])
    assert len(ask(lookup)) == 2
    lookup.heard(contact_at(1), [])
    lookup.heard(contact_at(1, port=9), [])
    assert lookup.closest() == [contact_at(1)]


def test_a_path_that_is_full_takes_nothing_from_the_others():
    config = LookupConfig(k=20, alpha=2, paths=2, path_candidates=5)
    lookup = lookup_from(contacts_at(50, 60), config)
    ask(lookup)
    lookup.heard(contact_at(50), contacts_at(*range(1, 40)))
    assert lookup.known == 6
    lookup.heard(contact_at(60), contacts_at(*range(41, 48)))
    assert lookup.known == 10


def test_two_of_one_public_subnet_count_and_the_others_of_it_are_not_asked():
    crowd = [
        Contact(node_id_of(bytes([n]) * 32, f"8.8.8.{n}"), Endpoint(f"8.8.8.{n}", 1))
        for n in range(1, 8)
    ]
    stranger = Contact(node_id_of(bytes(32), "9.9.9.9"), Endpoint("9.9.9.9", 1))
    lookup = lookup_from([*crowd, stranger])
    asked = drain(lookup, lambda _: [])
    assert len(asked) == 3
    assert stranger in asked


def test_on_a_network_where_everybody_knows_its_neighbourhood_the_set_is_exact():
    rng = random.Random(4)
    ids = [NodeId(rng.randbytes(20)) for _ in range(500)]
    nodes = {n: Contact(n, Endpoint("10.0.0.1", i + 1)) for i, n in enumerate(ids)}
    known = {
        n: sorted(ids, key=lambda other, n=n: distance(n, other))[1:40]
        + rng.sample(ids, 30)
        for n in ids
    }
    target = rng.randbytes(20)

    def nearest_known(contact):
        near = sorted(known[contact.node_id], key=lambda n: distance(n, target))
        return [nodes[n] for n in near[:20]]

    seeds = [nodes[n] for n in rng.sample(ids, 3)]
    lookup = Lookup(seeds, Region(target))
    asked = drain(lookup, nearest_known)
    true = sorted(ids, key=lambda n: distance(n, target))[:20]
    assert [contact.node_id for contact in lookup.closest()] == true
    assert len(asked) < 60
