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


def test_everybody_in_the_region_is_asked_however_many_are_nearer():
    members = (12, 16, 20, 24, 28, 32, 36)
    config = LookupConfig(k=2, paths=1)
    lookup = lookup_from(contacts_at(*members, 50, 60), config, radius=40)
    asked = drain(lookup, lambda c: contacts_at(39) if c == contact_at(24) else [])
    assert sorted(asked) == contacts_at(*members, 39)
    assert lookup.finished
    assert lookup.closest() == contacts_at(12, 16)
    assert lookup.holders() == contacts_at(*members, 39)


def test_it_is_not_finished_while_a_member_of_the_region_has_to_answer():
    lookup = lookup_from(contacts_at(1, 39), LookupConfig(k=1, alpha=2), radius=40)
    ask(lookup)
    lookup.heard(contact_at(1), [])
    assert not lookup.finished
    lookup.slow(contact_at(39))
    assert lookup.finished
    lookup.heard(contact_at(39), contacts_at(38))
    assert not lookup.finished


def test_each_path_asks_for_the_target_and_for_another_ring_in_turn():
    region = Region(TARGET, 2**150, points=4, rng=random.Random(1))
    lookup = Lookup(contacts_at(*range(1, 17)), region)
    points = {path: [] for path in range(4)}
    while queries := lookup.next_queries():
        for query in queries:
            assert query.is_holder
            path = lookup._candidates[query.contact].path
            points[path].append(query.near)
            lookup.heard(query.contact, [])
    for path, asked in points.items():
        target, *rings = region.points
        others = [rings[path % 3], rings[(path + 1) % 3]]
        assert asked == [target, others[0], target, others[1]]


def test_endless_liars_in_one_path_do_not_starve_the_others():
    config = LookupConfig(alpha=1, alpha_most=1)
    lookup = lookup_from(contacts_at(900, 901, 902, 903), config, radius=10**9)
    honest = contacts_at(*range(10_000, 10_030))
    made_up = iter(range(20_000, 90_000))

    def names(contact):
        if lookup._candidates[contact].path == 0:
            return contacts_at(*(next(made_up) for _ in range(20)))
        return honest if contact == contact_at(902) else []

    asked = drain(lookup, names)
    assert len(asked) == config.queries
    assert lookup.finished
    last = max(asked.index(contact) for contact in honest)
    assert last <= 4 + 2 * len(honest)


def test_the_member_named_first_and_the_nearest_are_asked_in_turn():
    config = LookupConfig(paths=1, alpha=1, alpha_most=1)
    lookup = lookup_from(contacts_at(500), config, radius=1000)
    ask(lookup)
    lookup.heard(contact_at(500), contacts_at(300, 400, 450))
    assert ask(lookup) == contacts_at(300)
    lookup.heard(contact_at(300), contacts_at(1, 2, 3))
    assert ask(lookup) == contacts_at(1)
    lookup.heard(contact_at(1), [])
    assert ask(lookup) == contacts_at(400)


def test_a_region_taken_for_larger_than_it_is_does_not_hide_the_closest():
    ids = random.Random(3).sample(range(1, 2**30), 2000)
    closest = sorted(ids)[:20]

    def knows(contact):
        own = int.from_bytes(contact.node_id, "big")
        near = sorted(ids, key=lambda place: place ^ own)[:10]
        buckets = random.Random(own).sample(ids, 10)
        return contacts_at(*near, *buckets)

    lookup = lookup_from(contacts_at(*ids[:20]), radius=2**30)
    drain(lookup, knows)
    found = [int.from_bytes(c.node_id, "big") for c in lookup.closest()]
    assert found == closest


def test_members_are_asked_at_once_where_all_of_them_will_be_asked():
    lookup = lookup_from(contacts_at(*range(1, 41)), radius=1000)
    lookup.asks_region_at_once = True
    assert len(ask(lookup)) == LookupConfig().region_alpha
    far = lookup_from(contacts_at(*range(1001, 1041)), radius=1000)
    far.asks_region_at_once = True
    assert len(ask(far)) == LookupConfig().alpha


def test_more_are_asked_at_once_while_contacts_turn_out_dead():
    lookup = lookup_from(contacts_at(*range(1, 41)))
    first = ask(lookup)
    assert len(first) == 3
    for contact in first:
        lookup.slow(contact)
    assert len(ask(lookup)) == 9


def test_a_suspect_is_asked_only_when_there_are_too_few_others():
    config = LookupConfig(k=3)
    suspects = [contact_at(1).endpoint]
    near = contact_at(1, port=4000)
    others = [contact_at(place, port=9) for place in (2, 3, 4, 5)]
    lookup = lookup_from([near, *others], config, suspects=suspects)
    assert set(drain(lookup, lambda _: [])) == set(others[:3])
    lookup = lookup_from([near, *others[:2]], config, suspects=suspects)
    asked = drain(lookup, lambda _: [])
    assert asked[-1] == near
    assert len(asked) == 3
    assert lookup.finished


def test_a_suspect_in_the_region_does_not_hold_up_the_end():
    suspects = [contact_at(1).endpoint]
    others = [contact_at(place, port=9) for place in (2, 3, 4)]
    config = LookupConfig(k=2)
    lookup = lookup_from([contact_at(1), *others], config, 100, suspects)
    assert set(drain(lookup, lambda _: [])) == set(others)
    assert lookup.finished


def test_where_the_nearest_are_a_crowd_each_path_asks_one_beyond_the_region():
    config = LookupConfig(k=4)
    crowd, beyond = contacts_at(*range(1, 9)), contacts_at(2001, 2002, 2003, 2004, 2005)
    lookup = lookup_from(crowd + beyond, config, radius=1000)
    asked = drain(lookup, lambda _: [])
    assert set(crowd) <= set(asked)
    assert sorted(set(asked) - set(crowd)) == contacts_at(2001, 2002, 2003, 2004)
    # Members that lie as by chance need nobody beyond.
    even = contacts_at(100, 300, 500, 700, 900)
    lookup = lookup_from(even + beyond, config, radius=1000)
    assert sorted(drain(lookup, lambda _: [])) == even


def test_in_the_region_a_third_of_one_subnet_is_asked_when_another_fails():
    crowd = [
        Contact(NodeId(bytes(19) + bytes([n])), Endpoint(f"8.8.8.{n}", 1))
        for n in range(1, 5)
    ]
    lookup = lookup_from(crowd, LookupConfig(paths=1, alpha=4), radius=100)
    assert ask(lookup) == crowd[:2]
    lookup.heard(crowd[0], [])
    assert ask(lookup) == []
    lookup.slow(crowd[1])
    assert ask(lookup) == [crowd[2]]
    lookup.heard(crowd[1], [])
    lookup.failed(crowd[2])
    assert ask(lookup) in ([], [crowd[3]])


def test_the_most_queries_are_never_exceeded_and_end_it():
    config = LookupConfig(queries=5, alpha=2)
    lookup = lookup_from(contacts_at(*range(1, 21)), config)
    first = lookup.next_queries(1)
    assert len(first) == 1
    lookup.heard(first[0].contact, [])
    assert len(drain(lookup, lambda _: [])) == 4
    assert lookup.next_queries() == []
    assert lookup.finished


def test_a_path_goes_on_though_another_one_fills_the_closest():
    config = LookupConfig(k=4, paths=2)
    known = {
        contact_at(100): contacts_at(1, 2, 3, 4),
        contact_at(200): contacts_at(150),
        contact_at(150): contacts_at(120),
    }
    lookup = lookup_from(contacts_at(100, 200), config)
    asked = drain(lookup, lambda contact: known.get(contact, []))
    assert set(contacts_at(150, 120)) <= set(asked)


def meeting_from(seeds, wanted, config=None):
    """A lookup for so many members of a region, whoever they are."""
    lookup = lookup_from(seeds, config, radius=100)
    lookup.asks_region_at_once, lookup.members_wanted = True, wanted
    return lookup


def test_no_more_members_are_asked_than_are_wanted():
    lookup = meeting_from(contacts_at(1, 200), 4)
    for contact, named in zip(ask(lookup), ((2, 3, 4, 5), (6, 7, 8)), strict=True):
        lookup.heard(contact, contacts_at(*named))
    asked = ask(lookup)
    assert len(asked) == 3
    for contact in asked:
        assert not lookup.finished
        lookup.heard(contact, contacts_at(9))
    assert ask(lookup) == []
    assert lookup.finished


def test_nobody_whom_others_name_is_met_before_all_of_our_own_have_answered():
    lookup = meeting_from(contacts_at(200, 201, 202), 6)
    first, second, third = ask(lookup)
    lookup.heard(first, contacts_at(1, 2, 3, 4, 5, 6))
    assert ask(lookup) == []
    lookup.heard(second, contacts_at(7, 8, 9))
    assert ask(lookup) == []
    lookup.slow(third)
    # Whoever named many has no more of them met than whoever named few.
    asked = ask(lookup)
    assert len(asked) == 6
    assert len(set(asked).intersection(contacts_at(7, 8, 9))) == 3


def test_another_member_is_asked_for_each_that_does_not_answer():
    lookup = meeting_from(contacts_at(200), 2)
    lookup.heard(*ask(lookup), contacts_at(1, 2, 3, 4))
    silent, late = ask(lookup)
    lookup.failed(silent)
    lookup.slow(late)
    others = ask(lookup)
    assert len(others) == 2
    lookup.heard(others[0], [])
    assert not lookup.finished
    lookup.heard(late, [])
    assert lookup.finished


def test_it_knows_enough_when_as_many_members_are_known_as_are_wanted():
    lookup = meeting_from(contacts_at(1, 200, 201), 3)
    asked = ask(lookup)
    assert not lookup.knows_enough
    lookup.heard(asked[0], contacts_at(2))
    assert not lookup.knows_enough
    lookup.heard(asked[1], contacts_at(3))
    assert lookup.knows_enough
    assert not lookup_from(contacts_at(1), radius=100).knows_enough


def test_where_there_are_fewer_members_than_wanted_it_ends_with_all_of_them():
    lookup = meeting_from(contacts_at(1, 2), 8)
    drain(lookup, lambda _: contacts_at(3))
    assert lookup.finished
    assert lookup.closest() == contacts_at(1, 2, 3)
