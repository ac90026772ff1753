"""`transactions`: replies match requests, timers follow measured round trips."""

import pytest

from opnode.core.addresses import Endpoint
from opnode.core.errors import RequestTimeout
from opnode.protocols.rpc.transactions import (
    RoundTrip,
    TransactionConfig,
    Transactions,
)

THERE = Endpoint("192.0.2.1", 4000)
ELSEWHERE = Endpoint("192.0.2.2", 4000)
OURS = Endpoint("198.51.100.9", 5000)


def make(**limits):
    return Transactions(bytes(32), TransactionConfig(**limits))


def send(transactions, now=0.0, *, to=THERE, is_patient=False, is_relayed=False):
    pending = transactions.open(to, "context")
    transactions.sent(pending, is_patient=is_patient, is_relayed=is_relayed, now=now)
    return pending


def ask_and_answer(transactions, now, rtt_s, to=THERE):
    pending = send(transactions, now, to=to)
    accepted = transactions.accept_untrusted(pending.transaction_id, to, now + rtt_s)
    assert accepted is pending


def test_a_reply_is_accepted_once_and_from_the_address_asked():
    transactions = make()
    pending = send(transactions)
    identity = pending.transaction_id
    assert transactions.accept_untrusted(identity, ELSEWHERE, 0.1) is None
    assert transactions.accept_untrusted(bytes(8), THERE, 0.1) is None
    assert transactions.accept_untrusted(identity, THERE, 0.1) is pending
    assert transactions.accept_untrusted(identity, THERE, 0.1) is None


def test_transaction_ids_differ_and_depend_on_the_key():
    transactions = make()
    ids = {transactions.open(THERE, None).transaction_id for _ in range(100)}
    assert len(ids) == 100
    other = Transactions(b"k" * 32, TransactionConfig())
    assert other.open(THERE, None).transaction_id not in ids


def test_round_trips_are_smoothed_as_in_rfc_6298():
    round_trip = RoundTrip()
    round_trip.add(0.1)
    assert round_trip.timeout_s() == pytest.approx(0.1 + 4 * 0.05)
    round_trip.add(0.2)
    assert round_trip.smoothed_s == pytest.approx(0.1125)
    assert round_trip.variation_s == pytest.approx(0.75 * 0.05 + 0.25 * 0.1)


def test_before_anything_was_measured_the_initial_timeout_holds():
    assert make().timeout_for(THERE) == 0.5


def test_a_known_contact_is_timed_by_its_own_round_trips():
    transactions = make()
    for number in range(50):
        ask_and_answer(transactions, float(number), 0.1)
    assert transactions.timeout_for(THERE) == pytest.approx(0.1, rel=0.05)


def test_an_unknown_contact_is_timed_by_the_distribution_seen_so_far():
    transactions = make(warm_up=8)
    for number in range(7):
        ask_and_answer(
            transactions, float(number), 0.1, Endpoint("192.0.2.9", number + 1)
        )
    assert transactions.timeout_for(THERE) == 0.5
    for number in range(50):
        ask_and_answer(transactions, 10.0 + number, 0.1, ELSEWHERE)
    assert 0.09 < transactions.timeout_for(THERE) < 0.15


def test_timeouts_stay_between_floor_and_cap():
    transactions = make(floor_s=0.02, cap_s=2.0)
    for number in range(60):
        ask_and_answer(transactions, float(number), 0.0001)
    assert transactions.timeout_for(THERE) == 0.02
    ask_and_answer(transactions, 100.0, 60.0, ELSEWHERE)
    assert transactions.timeout_for(ELSEWHERE) == 2.0


def test_a_request_turns_slow_is_sent_again_with_a_doubled_timeout_and_given_up():
    transactions = make()
    pending = send(transactions)
    assert transactions.next_deadline() == 0.5
    first = transactions.handle_deadline(0.5)
    assert (first.resend, first.turned_slow, first.given_up) == (
        [pending],
        [pending],
        [],
    )
    assert transactions.next_deadline() == 1.5
    second = transactions.handle_deadline(1.5)
    assert (second.resend, second.turned_slow, second.given_up) == ([], [], [pending])
    assert transactions.next_deadline() is None
    assert len(transactions) == 0


def test_nothing_is_done_before_the_deadline():
    transactions = make()
    send(transactions)
    overdue = transactions.handle_deadline(0.49)
    assert overdue == ([], [], [])


def test_three_retransmissions_mean_four_sends():
    transactions = make(patient_retransmissions=3)
    send(transactions, is_patient=True)
    sends = 1
    while (due_at := transactions.next_deadline()) is not None:
        sends += len(transactions.handle_deadline(due_at).resend)
    assert sends == 4


def test_what_may_be_repeated_several_times_is_repeated_at_a_steady_pace():
    transactions = make(initial_timeout_s=0.2, patient_retransmissions=5)
    send(transactions, is_patient=True)
    sent_at = []
    while (due_at := transactions.next_deadline()) is not None:
        if transactions.handle_deadline(due_at).resend:
            sent_at.append(due_at)
    assert sent_at == pytest.approx([0.2, 0.6, 1.1, 1.6, 2.1])


def test_the_steady_pace_is_never_faster_than_the_round_trip():
    transactions = make(steady_s=0.1)
    send(transactions, is_patient=True)
    sent_at = []
    while (due_at := transactions.next_deadline()) is not None:
        if transactions.handle_deadline(due_at).resend:
            sent_at.append(due_at)
    assert sent_at == pytest.approx([0.5, 1.0, 1.5])


def test_a_fast_path_is_not_given_up_before_the_patience_is_over():
    transactions = make(patience_s=0.5)
    for number in range(50):
        ask_and_answer(transactions, float(number), 0.001)
    pending = send(transactions, 100.0)
    given_up_at = None
    while (due_at := transactions.next_deadline()) is not None:
        if transactions.handle_deadline(due_at).given_up:
            given_up_at = due_at
    assert pending.is_slow
    assert given_up_at == pytest.approx(100.5)


def test_an_answer_to_a_repeated_request_measures_nothing():
    transactions = make()
    pending = send(transactions)
    transactions.handle_deadline(0.5)
    transactions.accept_untrusted(pending.transaction_id, THERE, 0.51)
    assert transactions.timeout_for(THERE) == 0.5


def test_a_relayed_request_is_granted_a_second_hop_and_measures_nothing():
    transactions = make(initial_timeout_s=0.2)
    pending = send(transactions, is_relayed=True)
    assert transactions.next_deadline() == 0.4
    transactions.accept_untrusted(pending.transaction_id, THERE, 0.3)
    assert transactions.timeout_for(THERE) == 0.2


def test_a_forgotten_request_is_neither_repeated_nor_answered():
    transactions = make()
    pending = send(transactions)
    transactions.forget(pending)
    transactions.forget(pending)
    assert transactions.next_deadline() is None
    assert transactions.accept_untrusted(pending.transaction_id, THERE, 0.1) is None


def test_too_many_requests_at_once_are_refused():
    transactions = make(max_pending=2)
    send(transactions)
    send(transactions)
    with pytest.raises(RequestTimeout, match="limit"):
        transactions.open(THERE, None)


def test_timers_of_answered_requests_do_not_pile_up():
    transactions = make()
    for number in range(1000):
        ask_and_answer(transactions, number / 1000, 0.0001)
    assert len(transactions._due) <= 70


def test_tokens_are_shown_for_as_long_as_they_are_worth_it():
    transactions = make(token_use_s=290, token_try_s=590)
    assert transactions.token_for(THERE, 0.0, is_sure=True) == b""
    transactions.heard(THERE, b"tokentok", OURS, 0.0)
    assert transactions.token_for(THERE, 289.0, is_sure=True) == b"tokentok"
    assert transactions.token_for(THERE, 291.0, is_sure=True) == b""
    assert transactions.token_for(THERE, 291.0, is_sure=False) == b"tokentok"
    assert transactions.token_for(THERE, 591.0, is_sure=False) == b""


def test_a_reply_without_a_token_keeps_the_one_we_have():
    transactions = make()
    transactions.heard(THERE, b"tokentok", OURS, 0.0)
    transactions.heard(THERE, b"", OURS, 1.0)
    assert transactions.token_for(THERE, 2.0, is_sure=True) == b"tokentok"


def test_the_observed_address_is_the_last_one_told():
    transactions = make()
    assert transactions.observed_by(THERE) is None
    transactions.heard(THERE, b"", ELSEWHERE, 0.0)
    transactions.heard(THERE, b"", OURS, 1.0)
    assert transactions.observed_by(THERE) == OURS


def test_the_peers_remembered_are_bounded_and_the_least_recent_goes():
    transactions = make(peers=2)
    for host in ("192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.3"):
        transactions.heard(Endpoint(host, 4000), b"tokentok", OURS, 0.0)
    assert transactions.token_for(THERE, 1.0, is_sure=True)
    assert not transactions.token_for(ELSEWHERE, 1.0, is_sure=True)


def test_the_round_trip_to_an_address_is_known_once_it_was_measured():
    transactions = make()
    assert transactions.round_trip_to(THERE) is None
    ask_and_answer(transactions, 0.0, 0.1)
    assert transactions.round_trip_to(THERE) == pytest.approx(0.1)
    assert transactions.round_trip_to(ELSEWHERE) is None
