"""One path: its proof, what may be sent before, its figures."""

import pytest

from opnode.core.addresses import Endpoint
from opnode.protocols.rudp.path import Path, PathState

THERE = Endpoint("192.0.2.2", 4002)


def new_path(endpoint: Endpoint = THERE) -> Path:
    return Path(endpoint, rtt_s=0.1, min_pto_s=0.01, max_packet_size=65_507)


def challenged(path: Path, token: bytes, now: float, size: int = 43) -> None:
    path.start_check(now)
    assert path.challenge_is_due
    path.on_challenge_sent(token, size, now, 0.2)


def test_an_answer_validates_and_measures():
    path = new_path()
    assert path.cost_s() is None
    challenged(path, b"a", 1.0)
    assert path.on_response(b"b", 1.04) is None
    assert not path.is_validated
    probe = path.on_response(b"a", 1.04)
    assert probe is not None
    assert probe.sent_at == 1.0
    assert path.is_validated
    assert path.statistics().rtt_s == pytest.approx(0.04)
    assert path.cost_s() == pytest.approx(0.04)
    assert path.cost_s(0.03) == pytest.approx(0.03)
    assert path.deadline is None
    assert path.on_response(b"a", 1.05) is None


def test_three_challenges_without_an_answer_fail_the_path():
    path = new_path()
    path.start_check(1.0)
    for number in range(3):
        assert path.challenge_is_due
        path.on_challenge_sent(bytes([number]), 43, 1.0 + number, 0.2)
        path.on_deadline(1.1 + number)
        assert path.deadline == 1.2 + number
        path.on_deadline(1.2 + number)
    assert path.state is PathState.FAILED
    assert path.failures == 1
    assert path.loss > 0.25
    assert path.on_response(b"\x02", 5.0) is not None
    assert path.is_validated
    assert path.failures == 0


def test_a_validated_path_that_is_heard_does_not_fail_for_lost_challenges():
    path = new_path()
    path.validate(0.5)
    for number in range(3):
        path.start_check(1.0)
        path.on_challenge_sent(bytes([number]), 43, 1.0 + number, 0.2)
        path.on_received(60, 1.1 + number)
        path.on_deadline(1.2 + number)
    assert path.is_validated


def test_an_unproven_address_gets_three_times_what_came():
    path = new_path()
    assert not path.may_send(43)
    path.on_received(100, 1.0)
    assert path.may_send(300)
    assert not path.may_send(301)
    path.on_sent(290)
    assert not path.may_send(43)
    path.is_local_choice = True
    assert path.may_send(43)
    assert not path.may_send(200)
    path.validate(1.0)
    assert path.may_send(1 << 30)
    path.on_sent(1000)
    assert path.budget == 10
    assert path.statistics().bytes_sent == 1290


def test_one_check_runs_at_a_time():
    path = new_path()
    challenged(path, b"a", 1.0)
    path.start_check(1.1)
    assert not path.challenge_is_due


def test_a_large_probe_is_about_the_size_alone():
    path = new_path()
    path.validate(1.0)
    path.on_mtu_probe_sent(b"m", 1472, 1.0, 0.2)
    assert path.deadline == 1.2
    path.start_check(1.0)
    path.on_challenge_sent(b"a", 43, 1.0, 0.1)
    assert path.deadline == 1.1
    path.on_response(b"a", 1.05)
    path.on_deadline(1.2)
    assert path.mtu_probe_until is None
    assert path.loss == 0.0
    path.on_mtu_probe_sent(b"n", 1472, 2.0, 0.2)
    path.on_response(b"n", 2.1)
    assert path.statistics().packet_size == 1472


def test_over_ipv6_loopback_s_size_is_the_most():
    path = new_path(Endpoint("::1", 4002))
    path.mtu.on_bulk_sent(1 << 30)
    path.mtu.on_probe_sent(1472)
    path.mtu.on_probe_answered(1472, 1.0)
    assert path.mtu.next_probe(1.0, 1 << 20) == 65_488


def test_only_the_last_probes_are_remembered_and_few_answers_owed():
    path = new_path()
    for number in range(9):
        path.on_mtu_probe_sent(bytes([number]), 1300, 1.0, 0.2)
        path.add_response(bytes([number]))
    assert path.on_response(bytes([0]), 1.1) is None
    assert path.on_response(bytes([1]), 1.1) is not None
    assert len(path.responses) == 4


def test_losses_make_a_path_dearer_and_answers_make_up_for_them():
    path = new_path()
    challenged(path, b"a", 1.0)
    path.on_deadline(1.2)
    lossy = path.loss
    path.on_response(b"a", 1.25)
    cost_s = path.cost_s()
    assert cost_s is not None
    assert cost_s > 0.25
    assert 0 < path.loss < lossy
