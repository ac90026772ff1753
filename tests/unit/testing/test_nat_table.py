"""`nat_table`: mapping, filtering, ports and limits as RFC 4787 words them."""

import dataclasses
import itertools
import random

import pytest

from opnode.core.addresses import Endpoint
from opnode.testing.nat_behaviour import (
    ADDRESS_RESTRICTED,
    FULL_CONE,
    PORT_RESTRICTED,
    SEQUENTIAL,
    SYMMETRIC,
    Dependence,
    NatBehaviour,
    Overflow,
    PortAssignment,
)
from opnode.testing.nat_table import NatTable

INSIDE = Endpoint("192.168.1.2", 4000)
NEIGHBOUR = Endpoint("192.168.1.3", 4000)
REMOTE = Endpoint("8.8.8.8", 1)
SAME_HOST = Endpoint("8.8.8.8", 2)
PRESERVING = NatBehaviour()
STRANGER = Endpoint("9.9.9.9", 1)


def table_of(behaviour, **changes):
    return NatTable(dataclasses.replace(behaviour, **changes), random.Random(1))


@pytest.mark.parametrize(
    ("mapping", "ports"),
    [
        (Dependence.ENDPOINT_INDEPENDENT, 1),
        (Dependence.ADDRESS_DEPENDENT, 2),
        (Dependence.ADDRESS_AND_PORT_DEPENDENT, 3),
    ],
)
def test_a_mapping_depends_on_what_it_should(mapping, ports):
    table = NatTable(NatBehaviour(mapping=mapping), random.Random(1))
    seen = {table.outbound(INSIDE, to, 0) for to in (REMOTE, SAME_HOST, STRANGER)}
    assert len(seen) == ports
    assert table.outbound(INSIDE, REMOTE, 1) in seen


@pytest.mark.parametrize(
    ("behaviour", "let_in"),
    [
        (FULL_CONE, [REMOTE, SAME_HOST, STRANGER]),
        (ADDRESS_RESTRICTED, [REMOTE, SAME_HOST]),
        (PORT_RESTRICTED, [REMOTE]),
        (SYMMETRIC, [REMOTE]),
    ],
)
def test_a_filter_depends_on_what_it_should(behaviour, let_in):
    table = table_of(behaviour)
    port = table.outbound(INSIDE, REMOTE, 0)
    passed = [
        remote
        for remote in (REMOTE, SAME_HOST, STRANGER)
        if table.inbound(port, remote, 1) == INSIDE
    ]
    assert passed == let_in
    assert table.statistics(1).filtered == 3 - len(let_in)


def test_nobody_gets_in_by_a_port_that_is_not_mapped():
    table = table_of(FULL_CONE)
    assert table.inbound(4000, REMOTE, 0) is None
    assert table.statistics(0).unmapped == 1


def test_a_preserving_box_keeps_the_port_and_gives_the_next_to_a_neighbour():
    table = table_of(PRESERVING)
    assert table.outbound(INSIDE, REMOTE, 0) == 4000
    assert table.outbound(NEIGHBOUR, REMOTE, 0) == 4001


def test_a_sequential_box_takes_the_next_port_whoever_asks():
    table = table_of(SEQUENTIAL)
    first = table.outbound(INSIDE, REMOTE, 0)
    assert table.outbound(NEIGHBOUR, REMOTE, 0) == first + 1
    assert table.outbound(INSIDE, STRANGER, 0) == first + 2


def test_random_ports_cannot_be_told_from_the_ones_before():
    table = table_of(SYMMETRIC)
    ports = [table.outbound(INSIDE, Endpoint("8.8.8.8", n), 0) for n in range(1, 50)]
    steps = {after - before for before, after in itertools.pairwise(ports)}
    assert len(steps) > 40


def test_sequences_end_at_the_last_port_and_begin_anew():
    table = NatTable(NatBehaviour(ports=PortAssignment.PRESERVING), random.Random(1))
    assert table.outbound(Endpoint("192.168.1.2", 65_535), REMOTE, 0) == 65_535
    assert table.outbound(Endpoint("192.168.1.3", 65_535), REMOTE, 0) == 1024


@pytest.mark.parametrize("timeout_s", [30.0, 60.0, 180.0])
def test_a_mapping_ends_after_its_timeout(timeout_s):
    table = table_of(PORT_RESTRICTED, timeout_s=timeout_s)
    port = table.outbound(INSIDE, REMOTE, 0)
    assert table.inbound(port, REMOTE, timeout_s - 0.1) == INSIDE
    assert table.inbound(port, REMOTE, timeout_s) is None
    assert table.statistics(timeout_s).mappings == 0


def test_only_what_leaves_refreshes_a_mapping():
    table = table_of(PORT_RESTRICTED, timeout_s=30.0)
    port = table.outbound(INSIDE, REMOTE, 0)
    assert table.outbound(INSIDE, REMOTE, 20) == port
    assert table.inbound(port, REMOTE, 45) == INSIDE
    assert table.inbound(port, REMOTE, 55) is None


def test_what_comes_in_refreshes_a_mapping_where_the_box_does_so():
    table = table_of(PORT_RESTRICTED, timeout_s=30.0, is_refreshed_inbound=True)
    port = table.outbound(INSIDE, REMOTE, 0)
    assert table.inbound(port, REMOTE, 20) == INSIDE
    assert table.inbound(port, REMOTE, 45) == INSIDE


def test_a_stranger_keeps_a_full_cone_open_where_inbound_refreshes():
    table = table_of(FULL_CONE, timeout_s=30.0, is_refreshed_inbound=True)
    port = table.outbound(INSIDE, REMOTE, 0)
    table.inbound(port, STRANGER, 20)
    assert table.inbound(port, SAME_HOST, 45) == INSIDE


def test_one_session_keeps_the_mapping_but_not_the_filter_of_another():
    table = table_of(PORT_RESTRICTED, timeout_s=30.0)
    port = table.outbound(INSIDE, REMOTE, 0)
    table.outbound(INSIDE, STRANGER, 20)
    assert table.inbound(port, REMOTE, 40) is None
    assert table.inbound(port, STRANGER, 40) == INSIDE
    assert table.outbound(INSIDE, REMOTE, 41) == port


def test_a_full_table_refuses_a_new_session_and_keeps_the_others():
    table = table_of(PRESERVING, max_sessions=64, timeout_s=30.0)
    remotes = [Endpoint("8.8.8.8", n) for n in range(1, 66)]
    ports = [table.outbound(INSIDE, remote, 0) for remote in remotes]
    assert ports == [4000] * 64 + [None]
    assert table.outbound(INSIDE, remotes[0], 1) == 4000
    assert table.statistics(1).refused == 1
    assert table.outbound(INSIDE, remotes[64], 30) == 4000


def test_a_full_table_may_drop_the_session_that_was_silent_longest():
    table = table_of(PRESERVING, max_sessions=2, overflow=Overflow.DROP_OLDEST)
    for at, remote in enumerate((REMOTE, SAME_HOST, REMOTE, STRANGER)):
        assert table.outbound(INSIDE, remote, at) == 4000
    assert table.inbound(4000, REMOTE, 5) == INSIDE
    assert table.inbound(4000, SAME_HOST, 5) is None
    assert table.statistics(5).dropped == 1


def test_a_stranger_never_pushes_out_the_session_that_lets_it_in():
    table = table_of(
        FULL_CONE,
        max_sessions=1,
        overflow=Overflow.DROP_OLDEST,
        is_refreshed_inbound=True,
    )
    port = table.outbound(INSIDE, REMOTE, 0)
    assert table.inbound(port, STRANGER, 1) == INSIDE
    assert table.inbound(port, REMOTE, 2) == INSIDE


def test_a_reboot_loses_every_mapping():
    table = table_of(FULL_CONE)
    port = table.outbound(INSIDE, REMOTE, 0)
    table.forget_all()
    assert table.inbound(port, REMOTE, 1) is None
    assert table.statistics(1).sessions == 0


def test_the_most_sessions_at_once_are_remembered():
    table = table_of(PORT_RESTRICTED, timeout_s=30.0)
    for remote in (REMOTE, SAME_HOST, STRANGER):
        table.outbound(INSIDE, remote, 0)
    statistics = table.statistics(60)
    assert (statistics.sessions, statistics.most_sessions) == (0, 3)
