"""The search finds what a path carries, with few probes, and notices black holes."""

import pytest

from opnode.protocols.rudp.mtu_search import (
    BASE_SIZE,
    MAX_SIZE,
    MAX_SIZE_IPV6,
    MtuSearch,
    SearchState,
)

BULK = 1 << 20
WINDOW = 1 << 20


def search_on(carries: int, maximum: int = MAX_SIZE) -> tuple[MtuSearch, list[int]]:
    """Search a path to the end; returns the search and the sizes of its probes."""
    search = MtuSearch(maximum)
    return search, run_search(search, carries)


def run_search(search: MtuSearch, carries: int, now: float = 1.0) -> list[int]:
    """Let bulk data flow until the search asks for nothing more."""
    probes = []
    while True:
        search.on_bulk_sent(BULK)
        size = search.next_probe(now, WINDOW)
        if not size:
            return probes
        probes.append(size)
        assert len(probes) < 40, probes
        search.on_probe_sent(size)
        if size <= carries:
            search.on_probe_answered(size, now)
        else:
            search.on_probe_lost(now)


@pytest.mark.parametrize(
    ("carries", "found", "most"),
    [
        (1200, 1200, 16),
        (1252, 1252, 16),
        (1280, 1252, 16),
        (1452, 1452, 12),
        (1472, 1472, 14),
        (4068, 4068, 14),
        (8972, 8972, 15),
        (9000, 8972, 15),
        (65_507, 65_507, 2),
    ],
)
def test_what_the_path_carries_is_found_with_few_probes(carries, found, most):
    search, probes = search_on(carries)
    assert search.size == found
    assert len(probes) <= most
    assert search.state is SearchState.COMPLETE


@pytest.mark.parametrize("carries", range(1200, MAX_SIZE, 997))
def test_on_any_path_two_thirds_of_it_are_found(carries):
    search, _ = search_on(carries)
    assert carries / 1.5 <= search.size <= carries


def test_ethernet_is_asked_first_and_then_the_most():
    assert search_on(MAX_SIZE)[1] == [1472, MAX_SIZE]


def test_loopback_over_ipv6_is_found_with_two_probes():
    search, probes = search_on(MAX_SIZE_IPV6, maximum=MAX_SIZE_IPV6)
    assert (search.size, len(probes)) == (MAX_SIZE_IPV6, 2)


def test_the_most_that_is_allowed_is_never_exceeded():
    search, probes = search_on(MAX_SIZE, maximum=1400)
    assert (search.size, probes) == (1400, [1400])


def test_a_maximum_of_the_base_size_turns_the_search_off():
    search, probes = search_on(MAX_SIZE, maximum=BASE_SIZE)
    assert (search.size, probes) == (BASE_SIZE, [])
    assert search.state is SearchState.DISABLED
    search.on_too_big(9000, 1.0)
    assert search.state is SearchState.DISABLED


def test_nothing_is_probed_before_bulk_data_flows():
    search = MtuSearch(MAX_SIZE)
    search.on_bulk_sent(100_000)
    assert not search.next_probe(1.0, WINDOW)
    search.on_bulk_sent(100_000)
    assert search.next_probe(1.0, WINDOW) == 1472


def test_a_probe_is_no_larger_than_the_congestion_window():
    search = MtuSearch(MAX_SIZE)
    search.on_bulk_sent(BULK)
    assert not search.next_probe(1.0, 1400)
    assert search.next_probe(1.0, 1500) == 1472


def test_one_probe_is_under_way_at_a_time():
    search = MtuSearch(MAX_SIZE)
    search.on_bulk_sent(BULK)
    search.on_probe_sent(search.next_probe(1.0, WINDOW))
    search.on_bulk_sent(BULK)
    assert not search.next_probe(1.0, WINDOW)


def test_a_large_probe_waits_until_bulk_data_has_paid_for_it():
    search = MtuSearch(MAX_SIZE)
    search.on_bulk_sent(200_000)
    search.on_probe_sent(search.next_probe(1.0, WINDOW))
    search.on_probe_answered(1472, 1.0)
    assert not search.next_probe(1.0, WINDOW)
    search.on_bulk_sent(8 * MAX_SIZE)
    assert search.next_probe(1.0, WINDOW) == MAX_SIZE


def test_one_lost_probe_does_not_make_a_size_fail():
    search = MtuSearch(1472)
    search.on_bulk_sent(BULK)
    for _ in range(2):
        search.on_probe_sent(search.next_probe(1.0, WINDOW))
        search.on_probe_lost(1.0)
    assert search.next_probe(1.0, WINDOW) == 1472
    search.on_probe_sent(1472)
    search.on_probe_lost(1.0)
    search.on_probe_lost(1.0)
    assert search.next_probe(1.0, WINDOW) < 1472


def test_an_answer_that_comes_late_still_counts():
    search = MtuSearch(1472)
    search.on_bulk_sent(BULK)
    search.on_probe_sent(1472)
    for _ in range(3):
        search.on_probe_lost(1.0)
        search.on_probe_sent(1472)
    search.on_probe_answered(1472, 1.0)
    assert search.size == 1472
    search.on_probe_answered(1300, 1.0)
    search.on_probe_answered(9999, 1.0)
    assert search.size == 1472


def test_what_the_own_system_refuses_needs_no_second_probe():
    search = MtuSearch(MAX_SIZE)
    search.on_bulk_sent(BULK)
    search.on_probe_sent(1472)
    search.on_probe_answered(1472, 1.0)
    search.on_bulk_sent(BULK)
    search.on_probe_sent(search.next_probe(1.0, WINDOW))
    search.on_too_big(MAX_SIZE, 1.0)
    assert search.next_probe(1.0, WINDOW) == 8952


def test_a_confirmed_size_that_the_own_system_refuses_is_left():
    search, _ = search_on(MAX_SIZE)
    search.on_too_big(1472, 1.0)
    assert search.size == BASE_SIZE
    search.on_too_big(1100, 1.0)
    run_search(search, 1400)
    assert search.size == 1392


def test_after_ten_minutes_a_larger_size_is_tried_again():
    search, _ = search_on(1472)
    search.on_acked(1, 1472, 500.0)
    assert run_search(search, MAX_SIZE, now=500.0) == []
    assert run_search(search, MAX_SIZE, now=602.0)[0] == MAX_SIZE
    assert search.size == MAX_SIZE


def test_a_size_that_no_packet_proved_for_half_a_minute_is_proved_by_a_probe():
    search, _ = search_on(1472)
    search.on_bulk_sent(BULK)
    assert not search.next_probe(30.0, WINDOW)
    assert search.next_probe(32.0, WINDOW) == 1472
    search.on_acked(1, 1472, 32.0)
    assert not search.next_probe(33.0, WINDOW)


def test_three_failed_confirmations_lead_back_to_the_base():
    search, _ = search_on(1472)
    search.on_bulk_sent(BULK)
    for _ in range(3):
        search.on_probe_sent(search.next_probe(40.0, WINDOW))
        search.on_bulk_sent(BULK)
        search.on_probe_lost(40.0)
    assert search.size == BASE_SIZE


def test_eight_large_packets_lost_in_a_row_are_a_black_hole():
    search, _ = search_on(8972)
    search.on_lost(10, 17, 8972, 2.0)
    assert search.size == 8972
    search.on_lost(17, 18, 8972, 2.0)
    assert (search.size, search.black_holes) == (BASE_SIZE, 1)
    run_search(search, 8000, now=2.0)
    assert BASE_SIZE < search.size <= 8000


def test_losses_before_a_large_packet_that_arrived_are_no_black_hole():
    search, _ = search_on(8972)
    search.on_acked(100, 8972, 2.0)
    search.on_lost(10, 99, 8972, 2.0)
    search.on_lost(101, 200, 1200, 2.0)
    assert search.size == 8972


def test_a_timeout_makes_packets_small_until_a_large_one_arrives():
    search, _ = search_on(8972)
    search.on_timeout()
    assert search.size == BASE_SIZE
    search.on_bulk_sent(BULK)
    assert not search.next_probe(1.0, WINDOW)
    search.on_acked(6, 8972, 2.0)
    assert (search.size, search.black_holes) == (8972, 0)


def test_after_a_timeout_a_probe_tells_a_black_hole_from_a_dead_path():
    search, _ = search_on(8972)
    search.on_timeout()
    search.on_acked(5, 1200, 2.0)
    assert search.next_probe(2.0, WINDOW) == 8972
    search.on_probe_sent(8972)
    assert not search.next_probe(2.0, WINDOW)
    search.on_probe_answered(8972, 2.0)
    assert (search.size, search.black_holes) == (8972, 0)
    search.on_timeout()
    search.on_acked(6, 1200, 3.0)
    for _ in range(3):
        search.on_timeout()
        search.on_probe_sent(search.next_probe(3.0, WINDOW))
        search.on_probe_lost(3.0)
    assert (search.size, search.black_holes) == (BASE_SIZE, 1)


def test_at_the_base_size_nothing_is_doubted():
    search = MtuSearch(MAX_SIZE)
    search.on_timeout()
    search.on_lost(0, 100, 1200, 1.0)
    search.on_acked(100, 1200, 1.0)
    search.on_probe_lost(1.0)
    assert (search.size, search.black_holes) == (BASE_SIZE, 0)
    assert search.state is SearchState.BASE
