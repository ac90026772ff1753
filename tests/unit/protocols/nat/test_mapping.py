import random

import pytest

from opnode.core.addresses import Endpoint
from opnode.protocols.nat.mapping import MappingKind, MappingObserver

HOST = "8.8.8.8"
OURS = (Endpoint("192.168.1.5", 4000),)


def seen(*ports, host=HOST, ours=OURS):
    observer = MappingObserver()
    for number, port in enumerate(ports):
        observer.report(number, Endpoint(host, port))
    return observer.mapping(ours)


def test_nothing_is_known_of_a_nat_before_three_reporters_told():
    assert seen().host is None
    for ports in ((), (7,), (7, 7)):
        assert seen(*ports).kind is MappingKind.UNKNOWN
    assert seen(7, 7).endpoint == Endpoint(HOST, 7)


def test_one_port_for_all_reporters_is_a_mapping_that_peers_can_be_told():
    mapping = seen(61_000, 61_000, 61_000)
    assert mapping.kind is MappingKind.INDEPENDENT
    assert mapping.endpoint == Endpoint(HOST, 61_000)


def test_our_own_address_and_port_mean_that_there_is_no_nat():
    ours = (Endpoint(HOST, 4000),)
    assert seen(4000, 4000, 4000, ours=ours).kind is MappingKind.NONE
    assert seen(4001, 4001, 4001, ours=ours).kind is MappingKind.INDEPENDENT


def test_one_liar_changes_nothing():
    assert seen(5, 5, 77, 5).kind is MappingKind.INDEPENDENT
    observer = MappingObserver()
    for number in range(3):
        observer.report(number, Endpoint(HOST, 5))
    observer.report(9, Endpoint("9.9.9.9", 6))
    assert observer.mapping(OURS).endpoint == Endpoint(HOST, 5)


def test_a_reporter_that_tells_again_counts_once():
    observer = MappingObserver()
    for _ in range(5):
        observer.report("one", Endpoint(HOST, 5))
    assert observer.mapping(OURS).kind is MappingKind.UNKNOWN


@pytest.mark.parametrize(
    ("ports", "step", "newest"),
    [
        ((1030, 1031, 1032), 1, 1032),
        ((1032, 1030, 1031), 1, 1032),
        ((1030, 1032, 1036, 1034, 1044), 2, 1044),
        ((1030, 1032, 1036), 1, 1036),
        ((2000, 2001, 2004, 2005, 2006), 1, 2006),
        ((65_534, 65_535, 0, 1), 1, 1),
        ((2009, 2008, 2007, 2006, 2005, 2004), 1, 2009),
        # An old mapping that somebody still had, and two who did not answer.
        ((1030, 3000, 3001, 3003, 3004, 3006), 1, 3006),
    ],
)
def test_ports_in_a_row_are_told_with_their_step_and_end(ports, step, newest):
    mapping = seen(*ports)
    assert mapping.kind is MappingKind.SEQUENTIAL
    assert (mapping.step, mapping.port) == (step, newest)


def test_ports_all_over_the_place_are_random():
    rng = random.Random(1)
    for _ in range(200):
        ports = [rng.randrange(1024, 65_536) for _ in range(8)]
        mapping = seen(*ports)
        assert mapping.kind is MappingKind.RANDOM
        assert mapping.port == ports[-1]
        assert mapping.kind.is_dependent


def test_two_ports_in_turns_are_not_judged():
    assert seen(5, 6, 5, 6).kind is MappingKind.UNKNOWN


def test_neighbours_inside_do_not_hide_what_the_world_sees():
    observer = MappingObserver()
    for number in range(4):
        observer.report(f"10.0.0.{number}", Endpoint("10.0.0.9", 4000))
    for number in range(3):
        observer.report(number, Endpoint(HOST, 61_000))
    assert observer.mapping(OURS).endpoint == Endpoint(HOST, 61_000)


def test_only_the_latest_eight_reporters_count():
    observer = MappingObserver()
    for number in range(8):
        observer.report(number, Endpoint(HOST, 5))
    for number in range(8, 16):
        observer.report(number, Endpoint("9.9.9.9", 6))
    assert observer.mapping(OURS).endpoint == Endpoint("9.9.9.9", 6)
    observer.forget()
    assert observer.mapping(OURS).endpoint is None
