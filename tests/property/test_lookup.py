"""Lookups on any network, among any liars: they end, stay disjoint, and read regions.

The networks are made up: who names whom is drawn, so are liars, deaths and delays.
"""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from opnode.core.addresses import Endpoint
from opnode.core.ids import Contact, NodeId, distance
from opnode.protocols.lookup.candidates import CandidateState
from opnode.protocols.lookup.config import LookupConfig
from opnode.protocols.lookup.lookup import Lookup
from opnode.protocols.lookup.region import Region

TARGET = bytes(20)
SPACE = 2**160


class World:
    """A network as a random number generator makes it."""

    def __init__(self, rng, nodes, sybils):
        self.rng = rng
        self.radius = SPACE * 20 // max(nodes, 20)
        honest = [rng.randbytes(20) for _ in range(nodes)]
        # Liars sit next to the target, where they are nearer than everybody else.
        liars = [bytes(15) + rng.randbytes(5) for _ in range(sybils)]
        self.liars = {self.contact(node_id) for node_id in liars}
        self.honest = {self.contact(node_id) for node_id in honest}
        self.known = {
            contact: rng.sample(sorted(self.honest), min(nodes, 60))
            + rng.sample(sorted(self.liars), min(sybils, 10))
            for contact in self.honest
        }

    def contact(self, node_id):
        port = 1 + self.rng.randrange(65535)
        return Contact(NodeId(node_id), Endpoint("10.0.0.1", port))

    def answer(self, contact, near):
        """Twenty contacts: the honest name who is near, liars only each other."""
        known = self.liars if contact in self.liars else self.known[contact]
        return sorted(known, key=lambda c: distance(c.node_id, near))[:20]

    def is_inside(self, contact):
        return distance(contact.node_id, TARGET) < self.radius


class Run:
    """One lookup in a world, in an order of events that is drawn."""

    def __init__(self, world, config, *, dead=0.0, at_once=False, knows_size=True):
        self.world = world
        rng = world.rng
        radius = world.radius if knows_size else None
        seeds = rng.sample(sorted(world.honest), min(20, len(world.honest)))
        seeds.sort(key=lambda c: distance(c.node_id, TARGET))
        self.lookup = Lookup(seeds, Region(TARGET, radius, rng=rng), config)
        self.lookup.asks_region_at_once = at_once
        self.asked = []
        self.answered = set()
        self.named = set()
        waiting = []
        while True:
            queries = self.lookup.next_queries()
            self.asked += [query.contact for query in queries]
            waiting += queries
            if not waiting or self.lookup.finished:
                break
            query = waiting.pop(rng.randrange(len(waiting)))
            self.settle(query, rng.random() < dead, waiting)

    def settle(self, query, is_dead, waiting):
        lookup, rng = self.lookup, self.world.rng
        contact = query.contact
        if is_dead and rng.random() < 0.5:
            lookup.slow(contact)
            if rng.random() < 0.5:
                waiting.append(query)
                return
        if is_dead:
            lookup.failed(contact)
            return
        names = self.world.answer(contact, query.near)
        self.answered.add(contact)
        if contact in self.world.honest:
            self.named.update(names)
        lookup.heard(contact, names)


worlds = st.builds(
    lambda seed, nodes, sybils: World(random.Random(seed), nodes, sybils),
    st.integers(0, 2**32),
    st.integers(1, 150),
    st.integers(0, 100),
)
deaths = st.floats(0.0, 0.9)
configs = st.builds(
    LookupConfig,
    k=st.integers(1, 20),
    paths=st.integers(1, 6),
    alpha=st.integers(1, 6),
    queries=st.integers(1, 256),
)


@settings(max_examples=60, deadline=None)
@given(worlds, configs, deaths, st.booleans(), st.booleans())
def test_it_ends_within_its_queries_and_asks_nobody_twice(
    world, config, dead, at_once, knows_size
):
    run = Run(world, config, dead=dead, at_once=at_once, knows_size=knows_size)
    assert run.lookup.finished
    assert len(run.asked) == run.lookup.asked <= config.queries
    assert len(set(run.asked)) == len(run.asked)


@settings(max_examples=60, deadline=None)
@given(worlds, configs, deaths)
def test_a_node_belongs_to_one_path_the_one_of_whoever_named_it_first(
    world, config, dead
):
    run = Run(world, config, dead=dead)
    candidates = run.lookup.candidates()
    assert len({c.contact for c in candidates}) == len(candidates)
    for candidate in candidates:
        assert 0 <= candidate.path < config.paths
        if candidate.named_by is not None:
            assert candidate.path == candidate.named_by.path


@settings(max_examples=60, deadline=None)
@given(worlds, st.booleans())
def test_every_honest_member_that_an_honest_node_named_is_asked(world, at_once):
    run = Run(world, LookupConfig(), at_once=at_once)
    wanted = {
        contact
        for contact in run.named & world.honest
        if world.is_inside(contact) and contact not in run.answered
    }
    assert not wanted


@settings(max_examples=60, deadline=None)
@given(worlds, deaths)
def test_it_ends_with_the_closest_of_those_who_answered(world, dead):
    run = Run(world, LookupConfig(), dead=dead)
    answered = [
        candidate.contact
        for candidate in run.lookup.candidates()
        if candidate.state is CandidateState.ANSWERED
    ]
    answered.sort(key=lambda contact: distance(contact.node_id, TARGET))
    assert run.lookup.closest() == answered[:20]
    holders = run.lookup.holders()
    assert set(answered[:20]) <= set(holders)
    assert {c for c in answered if world.is_inside(c)} <= set(holders)
    assert len(set(holders)) == len(holders)
