"""`reachability`: three unrelated strangers are a proof, for a while."""

import itertools

import pytest

from opnode.core.addresses import Endpoint, network_of
from opnode.protocols.reachability import (
    Reachability,
    ReachabilityConfig,
    ReachabilityStatistics,
    Standing,
)

CONFIG = ReachabilityConfig()
PUBLIC = Endpoint("8.8.8.8", 4000)
PRIVATE = Endpoint("10.0.0.1", 4000)
HELPERS = [Endpoint(f"{n}.1.1.1", 4000) for n in range(11, 21)]
STRANGERS = [Endpoint(f"{n}.2.2.2", 4000) for n in range(31, 41)]


@pytest.fixture
def machine():
    count = itertools.count()
    made = Reachability(lambda: next(count).to_bytes(16), 0.0)
    made.moved(PUBLIC, 0.0)
    return made


def dial(machine, questions, sources, now, *, is_stranger=True):
    for question, source in zip(questions, sources, strict=False):
        machine.dialled_untrusted(question.nonce, source, now, is_stranger=is_stranger)


def prove(machine, now):
    dial(machine, machine.begin(HELPERS, now), STRANGERS[:3], now)


def fail(machine):
    now = machine.next_deadline()
    machine.begin(HELPERS, now)
    machine.handle_deadline(now + CONFIG.round_s)


def test_it_starts_unproven_and_asks_after_a_while(machine):
    assert machine.standing is Standing.UNPROVEN
    assert machine.next_deadline() == CONFIG.settle_s


def test_helpers_of_one_network_are_asked_once_and_no_more_than_needed(machine):
    related = [Endpoint(f"11.1.{n}.1", 4000) for n in range(9)]
    questions = machine.begin([*related, *HELPERS], 30.0)
    assert len(questions) == CONFIG.asked
    networks = {network_of(question.helper.host) for question in questions}
    assert len(networks) == CONFIG.asked
    assert len({question.nonce for question in questions}) == CONFIG.asked


def test_three_unrelated_networks_are_a_proof_and_two_are_not(machine):
    questions = machine.begin(HELPERS, 30.0)
    dial(machine, questions, STRANGERS[:2], 31.0)
    assert machine.standing is Standing.UNPROVEN
    dial(machine, questions[2:], STRANGERS[2:3], 31.0)
    assert machine.standing is Standing.PROVEN
    assert not machine.is_asking
    assert machine.next_deadline() == 31.0 + CONFIG.check_s


def test_diallers_of_one_network_count_once(machine):
    questions = machine.begin(HELPERS, 30.0)
    related = [Endpoint(f"31.2.{n}.1", 4000) for n in range(5)]
    dial(machine, questions, related, 31.0)
    assert machine.standing is Standing.UNPROVEN


def test_whom_we_talk_to_proves_nothing(machine):
    questions = machine.begin(HELPERS, 30.0)
    dial(machine, questions, STRANGERS, 31.0, is_stranger=False)
    assert machine.standing is Standing.UNPROVEN


def test_a_nonce_counts_once_and_a_guessed_or_late_one_never(machine):
    questions = machine.begin(HELPERS, 30.0)
    assert machine.dialled_untrusted(
        questions[0].nonce, STRANGERS[0], 31.0, is_stranger=True
    )
    for source in STRANGERS[1:]:
        for nonce in (questions[0].nonce, bytes(15) + b"\xff"):
            assert not machine.dialled_untrusted(nonce, source, 31.0, is_stranger=True)
    machine.handle_deadline(40.0)
    assert not machine.dialled_untrusted(
        questions[1].nonce, STRANGERS[1], 41.0, is_stranger=True
    )
    assert machine.standing is Standing.UNPROVEN


def test_failed_rounds_are_repeated_ever_more_slowly_up_to_a_limit(machine):
    pauses = []
    for _ in range(10):
        fail(machine)
        ended_at = machine.next_deadline()
        pauses.append(ended_at)
    gaps = [b - a for a, b in itertools.pairwise(pauses)]
    assert gaps == sorted(gaps)
    assert gaps[0] == 8 * CONFIG.again_s + CONFIG.round_s
    assert gaps[-1] == CONFIG.longest_s + CONFIG.round_s


def test_two_failed_checks_in_a_row_end_a_proof_and_one_does_not(machine):
    prove(machine, 30.0)
    fail(machine)
    assert machine.standing is Standing.PROVEN
    assert machine.next_deadline() < 30.0 + CONFIG.check_s + 2 * CONFIG.again_s
    prove(machine, machine.next_deadline())
    fail(machine)
    assert machine.standing is Standing.PROVEN
    fail(machine)
    assert machine.standing is Standing.UNPROVEN


def test_another_address_is_proven_at_once(machine):
    prove(machine, 30.0)
    machine.moved(PUBLIC, 50.0)
    assert machine.next_deadline() > 1000
    machine.moved(Endpoint("9.9.9.9", 4000), 100.0)
    assert machine.next_deadline() == 100.0
    assert machine.standing is Standing.PROVEN, "until two checks failed"
    fail(machine)
    fail(machine)
    assert machine.standing is Standing.UNPROVEN


def test_a_move_during_a_round_makes_its_nonces_worthless(machine):
    questions = machine.begin(HELPERS, 30.0)
    machine.moved(Endpoint("9.9.9.9", 4000), 31.0)
    assert not machine.is_asking
    dial(machine, questions, STRANGERS, 32.0)
    assert machine.standing is Standing.UNPROVEN


@pytest.mark.parametrize(("hosts", "needed"), [(1, 1), (2, 2), (5, 3)])
def test_in_a_private_network_all_hosts_that_there_are_may_be_enough(hosts, needed):
    machine = Reachability(lambda: bytes(16), 0.0)
    machine.moved(PRIVATE, 0.0)
    helpers = [Endpoint(f"10.0.0.{n}", 4000) for n in range(2, 2 + hosts)]
    count = itertools.count()
    machine._draw_nonce = lambda: next(count).to_bytes(16)
    questions = machine.begin([*helpers, *helpers], 30.0)
    assert len(questions) == hosts
    sources = [helper._replace(port=50_000) for helper in helpers]
    dial(machine, questions, sources[: needed - 1], 31.0)
    assert machine.standing is Standing.UNPROVEN
    dial(machine, questions[needed - 1 :], sources[needed - 1 : needed], 31.0)
    assert machine.standing is Standing.PROVEN


def test_a_public_node_needs_three_however_few_it_knows(machine):
    questions = machine.begin(HELPERS[:1], 30.0)
    dial(machine, questions, STRANGERS, 31.0)
    assert machine.standing is Standing.UNPROVEN


def test_the_evidence_names_the_networks_of_the_last_proof_and_failures_since(machine):
    assert machine.statistics() == (
        ReachabilityStatistics(is_proven=False, networks=0, failures=0)
    )
    prove(machine, 30.0)
    proven = ReachabilityStatistics(is_proven=True, networks=3, failures=0)
    assert machine.statistics() == proven
    fail(machine)
    assert machine.statistics() == (
        ReachabilityStatistics(is_proven=True, networks=3, failures=1)
    )
    fail(machine)
    assert machine.statistics() == (
        ReachabilityStatistics(is_proven=False, networks=0, failures=2)
    )


def test_what_was_done_for_the_port_makes_it_ask_soon_after_many_failures(machine):
    for _ in range(6):
        fail(machine)
    now = machine.next_deadline() - 10 * CONFIG.again_s
    machine.retry(now)
    assert machine.next_deadline() == now + CONFIG.settle_s
    assert machine.statistics().failures == 0
