"""Tables hold distinct living contacts in the right buckets and find the nearest."""

import numpy as np
import pytest

from simulations.backends.event.population import Population
from simulations.backends.event.tables import EMPTY, Living, Tables, depths_for
from simulations.model.ids import ID_BITS

COUNT = 500


@pytest.fixture(scope="module")
def people() -> Population:
    return Population.steady(COUNT, np.random.Generator(np.random.PCG64(5)))


@pytest.fixture(scope="module")
def tables(people: Population) -> Tables:
    generator = np.random.Generator(np.random.PCG64(6))
    tables = Tables(people, generator, depths=depths_for(COUNT))
    nodes = np.arange(COUNT)
    tables.seat(nodes)
    tables.fill(nodes, 0.0, Living(people, 0.0))
    return tables


def _shared_bits(people: Population, one: int, other: int) -> int:
    return ID_BITS - (people.id_of[one] ^ people.id_of[other]).bit_length()


def test_every_bucket_has_as_many_contacts_as_there_are_up_to_k(
    people: Population, tables: Tables
) -> None:
    last = tables.depths - 1
    for node in range(0, COUNT, 37):
        shared = [
            min(last, _shared_bits(people, node, other))
            for other in range(COUNT)
            if other != node
        ]
        expected = [
            min(tables.k, shared.count(depth)) for depth in range(tables.depths)
        ]
        row = tables.contacts[tables.seat_of[node]]
        assert (row != EMPTY).sum(axis=1).tolist() == expected


def test_contacts_differ_and_share_the_bits_of_their_bucket(
    people: Population, tables: Tables
) -> None:
    last = tables.depths - 1
    for node in range(0, COUNT, 37):
        contacts = tables.contacts_of(node).tolist()
        assert len(set(contacts)) == len(contacts)
        assert node not in contacts
        for depth in range(tables.depths):
            row = tables.contacts[tables.seat_of[node], depth]
            for contact in row[row != EMPTY].tolist():
                assert min(last, _shared_bits(people, node, contact)) == depth


@pytest.mark.parametrize("k", [1, 8, 20, 70])
def test_the_nearest_of_a_table_are_those_of_a_walk_over_all_contacts(
    people: Population, tables: Tables, k: int
) -> None:
    generator = np.random.Generator(np.random.PCG64(7))
    for node in range(0, COUNT, 11):
        target = int(generator.integers(0, 1 << 63)) * 2 + 1
        near = sorted((people.id_of[c] ^ target, c) for c in tables.contacts_of(node))
        assert tables.nearest(node, target, k) == near[:k]


@pytest.mark.parametrize("k", [1, 20, COUNT + 1])
def test_the_living_nearest_to_an_id_are_found_exactly(
    people: Population, k: int
) -> None:
    living = Living(people, 0.0)
    for target in (0, 1, (1 << 64) - 1, people.id_of[3], 0x1234567890ABCDEF):
        near = sorted(range(COUNT), key=lambda node: people.id_of[node] ^ target)
        assert living.closest(target, k) == near[:k]


def test_the_living_after_a_change_are_those_of_the_moment() -> None:
    people = Population.steady(COUNT, np.random.Generator(np.random.PCG64(8)))
    living = Living(people, 0.0)
    gone = np.array([3, 400, 77])
    for node in gone.tolist():
        people.end(node, 1.0)
    come = np.array([people.add(5, starts=1.0), people.add((1 << 64) - 7, starts=1.0)])
    living.change(people, gone, come)
    expected = Living(people, 1.0)
    assert living.nodes.tolist() == expected.nodes.tolist()
    assert living.ids.tolist() == expected.ids.tolist()


def test_a_seat_that_became_free_is_empty_for_who_takes_it() -> None:
    people = Population.steady(60, np.random.Generator(np.random.PCG64(9)))
    tables = Tables(people, np.random.Generator(np.random.PCG64(9)), depths=4)
    nodes = np.arange(50)
    tables.seat(nodes)
    tables.fill(nodes, 0.0, Living(people, 0.0))
    tables.unseat(np.array([7]))
    tables.seat(np.array([55]))
    assert tables.contacts_of(55).tolist() == []
    assert not tables.has_seat(7)
    assert tables.has_seat(55)


def test_what_was_in_a_bucket_stays_when_its_free_places_are_filled() -> None:
    people = Population.steady(COUNT, np.random.Generator(np.random.PCG64(5)))
    tables = Tables(people, np.random.Generator(np.random.PCG64(6)), depths=9)
    nodes = np.arange(COUNT)
    seats = tables.seat(nodes)
    living = Living(people, 0.0)
    tables.fill(nodes, 0.0, living)
    tables.contacts[seats[3], 0, 4:9] = EMPTY
    kept = tables.contacts[seats[3], 0].copy()
    places, contacts = tables.fill_buckets(seats[[3]], np.array([0]), 1.0, living)
    assert len(places) == len(contacts) == 5
    row = tables.contacts[seats[3], 0]
    assert row[kept != EMPTY].tolist() == kept[kept != EMPTY].tolist()
    assert len(set(row.tolist())) == tables.k
