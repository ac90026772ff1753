"""`silence`: only failures without any answer since raise a suspicion."""

from opnode.protocols.rpc.silence import SUSPICIOUS_S, Silence


def watched():
    silence, suspicions = Silence(), []
    silence.on_suspicion = lambda: suspicions.append(1)
    return silence, suspicions


def test_the_first_failure_is_suspicious_when_nobody_ever_answered():
    silence, suspicions = watched()
    silence.failed(1.5)
    assert suspicions == [1]


def test_a_failure_soon_after_an_answer_is_none():
    silence, suspicions = watched()
    silence.heard(10.0)
    silence.failed(10.0 + SUSPICIOUS_S - 0.1)
    assert suspicions == []
    silence.failed(10.0 + SUSPICIOUS_S)
    assert suspicions == [1]
    assert silence.heard_at == 10.0


def test_nobody_has_to_listen():
    Silence().failed(1.0)
