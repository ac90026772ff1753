"""`surroundings`: strangers send us no nearer than the nodes that we talk to."""

import pytest

from opnode.protocols.rpc.surroundings import Surroundings, SurroundingsConfig

PUBLIC, PRIVATE, LOOPBACK = "8.8.8.8", "192.168.1.1", "127.0.0.1"


def surroundings(*heard):
    made = Surroundings(SurroundingsConfig(forget_s=600.0))
    for host in heard:
        made.heard(host, 0.0)
    return made


@pytest.mark.parametrize(
    ("heard", "allowed"),
    [
        ((), (True, True, True)),
        ((LOOPBACK,), (True, True, True)),
        ((PRIVATE,), (True, True, False)),
        ((PUBLIC,), (True, False, False)),
        ((PUBLIC, PRIVATE, LOOPBACK), (True, False, False)),
        (("2a00:1450::1",), (True, False, False)),
    ],
)
def test_whoever_answers_from_further_away_forbids_what_is_nearer(heard, allowed):
    made = surroundings(*heard)
    hosts = (PUBLIC, PRIVATE, LOOPBACK)
    assert tuple(made.may_be_sent_to(host, 1.0) for host in hosts) == allowed


def test_a_network_that_was_left_does_not_count_for_ever():
    made = surroundings(PUBLIC)
    made.heard(PRIVATE, 500.0)
    assert not made.may_be_sent_to(PRIVATE, 600.0)
    assert made.may_be_sent_to(PRIVATE, 601.0)
    assert not made.may_be_sent_to(LOOPBACK, 601.0)
