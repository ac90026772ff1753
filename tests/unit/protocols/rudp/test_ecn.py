"""Marks that are tried, trusted and given up (RFC 9000 §13.4.2)."""

import pytest

from opnode.protocols.rudp.ecn import ECT_0, NOT_ECT, EcnState, EcnValidation
from opnode.protocols.rudp.frames import EcnCounts


def capable(sent: int = 10) -> EcnValidation:
    ecn = EcnValidation()
    ecn.on_sent(sent)
    ecn.on_ack(EcnCounts(2, 0, 0), 2)
    return ecn


def test_ten_packets_try_the_path_and_the_rest_waits_for_the_answer():
    ecn = EcnValidation()
    assert ecn.codepoint == ECT_0
    ecn.on_sent(4)
    assert ecn.codepoint == ECT_0
    ecn.on_sent(6)
    assert (ecn.state, ecn.codepoint) == (EcnState.UNKNOWN, NOT_ECT)
    assert not ecn.on_ack(EcnCounts(10, 0, 0), 10)
    assert (ecn.state, ecn.codepoint) == (EcnState.CAPABLE, ECT_0)


def test_a_new_mark_is_reported_once():
    ecn = capable()
    assert ecn.on_ack(EcnCounts(4, 0, 1), 3)
    assert not ecn.on_ack(EcnCounts(5, 0, 1), 1)


@pytest.mark.parametrize(
    ("counts", "marked"),
    [
        pytest.param(None, 1, id="the counts are missing"),
        pytest.param(EcnCounts(2, 0, 0), 1, id="packets arrived without their mark"),
        pytest.param(EcnCounts(1, 0, 0), 0, id="a count went down"),
        pytest.param(EcnCounts(3, 1, 0), 1, id="a codepoint that is never sent"),
        pytest.param(EcnCounts(9, 0, 2), 1, id="more than were sent"),
    ],
)
def test_counts_that_cannot_be_turn_marking_off_for_good(counts, marked):
    ecn = capable()
    assert not ecn.on_ack(counts, marked)
    assert (ecn.state, ecn.codepoint) == (EcnState.FAILED, NOT_ECT)
    assert not ecn.on_ack(EcnCounts(9, 0, 1), 9)


def test_an_answer_without_counts_to_packets_without_marks_says_nothing():
    ecn = capable()
    assert not ecn.on_ack(None, 0)
    assert ecn.state is EcnState.CAPABLE


def test_a_path_that_marks_everything_is_not_trusted():
    ecn = EcnValidation()
    ecn.on_sent(10)
    assert not ecn.on_ack(EcnCounts(0, 0, 10), 10)
    assert ecn.state is EcnState.FAILED


def test_silence_after_the_first_marked_packets_turns_marking_off():
    ecn = EcnValidation()
    ecn.on_probe_timeout()
    assert ecn.state is EcnState.TESTING
    ecn.on_sent(1)
    ecn.on_probe_timeout()
    assert ecn.state is EcnState.FAILED


def test_silence_on_a_path_that_was_proven_changes_nothing():
    ecn = capable()
    ecn.on_probe_timeout()
    assert ecn.state is EcnState.CAPABLE


def test_another_path_is_tried_anew():
    ecn = capable()
    ecn.on_ack(None, 1)
    ecn.on_path_changed()
    assert ecn.codepoint == ECT_0
    ecn.on_sent(10)
    assert ecn.on_ack(EcnCounts(5, 0, 0), 3) is False
    assert ecn.state is EcnState.CAPABLE
