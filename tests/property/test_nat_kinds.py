"""Any NAT of a kind is told by its kind, whoever answers and in whatever order."""

import random

from hypothesis import given
from hypothesis import strategies as st

from opnode.core.addresses import Endpoint
from opnode.protocols.nat.mapping import MappingKind, MappingObserver
from opnode.protocols.nat.port_row import PortRow
from opnode.protocols.nat.prediction import next_ports

HOST = "8.8.8.8"
PORTS = 1 << 16
firsts = st.integers(1024, PORTS - 1)


def port_after(first, taken, step=1):
    """As `next_ports` counts: from 65535 on to 1024."""
    return 1024 + (first - 1024 + step * taken) % (PORTS - 1024)


@given(
    firsts.filter(lambda port: port < PORTS - 200),
    st.lists(st.integers(1, 4), min_size=4, max_size=8),
    st.randoms(use_true_random=False),
)
def test_ports_in_a_row_are_found_whoever_stays_silent(
    first: int, gaps: list[int], rng: random.Random
):
    ports = [first + sum(gaps[:place]) for place in range(len(gaps))]
    observer = MappingObserver()
    for reporter, port in enumerate(rng.sample(ports, len(ports))):
        observer.report(reporter, Endpoint(HOST, port))
    mapping = observer.mapping(())
    assert mapping.kind is MappingKind.SEQUENTIAL
    assert mapping.port == max(ports)
    assert all(gap % mapping.step == 0 for gap in gaps[:-1])


@given(firsts, st.integers(3, 20), st.integers(0, 2))
def test_one_port_is_found_beside_fewer_than_half_liars(
    port: int, honest: int, liars: int
):
    observer = MappingObserver()
    for reporter in range(liars):
        observer.report(reporter, Endpoint(HOST, (port + 1 + reporter) % PORTS))
    for reporter in range(liars, liars + honest):
        observer.report(reporter, Endpoint(HOST, port))
    assert observer.mapping(()).kind is MappingKind.INDEPENDENT
    assert observer.mapping(()).port == port


@given(
    firsts,
    st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=60),
)
def test_the_end_of_a_row_is_where_a_sequential_nat_has_got_to(
    first: int, sends: list[tuple[int, bool]]
):
    """Whoever is sent something first takes a port; some of them tell which."""
    row, given_to = PortRow(), {}
    for number, answers in sends:
        address = Endpoint(f"20.0.0.{number + 1}", 1)
        row.sent(address, 0.0)
        given_to.setdefault(address, port_after(first, len(given_to) + 1))
        if answers:
            row.seen(address, given_to[address], 0.0)
    (following,) = next_ports(row.end(first, 1), 1, (), 1)
    assert following == port_after(first, len(given_to) + 1)
