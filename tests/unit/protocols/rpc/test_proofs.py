"""`proofs`: a proof is good for one nonce, node, pair of addresses and network."""

import contextlib

import pytest

from opnode.core.addresses import Endpoint
from opnode.core.errors import RefusalCode
from opnode.core.ids import NodeId
from opnode.protocols.rpc.datagrams import (
    Sender,
)
from opnode.protocols.rpc.messages import (
    FailureCode,
    Ping,
    Pong,
    Refuse,
    Stored,
    pack_endpoint,
)
from opnode.protocols.rpc.proofs import (
    ProofTerms,
    Prover,
    proven_key_untrusted,
)
from opnode.testing.keys import seeded_signing_key

KEY = seeded_signing_key("prover")
TERMS = ProofTerms(
    network=b"network!",
    prover=NodeId(b"p" * 20),
    asked=Endpoint("192.0.2.1", 4000),
    observed=Endpoint("192.0.2.9", 5000),
    nonce=b"n" * 32,
)


SENDER = Sender(TERMS.network, TERMS.prover, leaf=False)
PING = Ping(TERMS.nonce, pack_endpoint(TERMS.asked))


def prover(key=KEY, local=TERMS.asked, proofs_per_s=10):
    return Prover(key, local, proofs_per_s)


def prove(prover, ping=PING, now=0.0):
    return prover.prove_untrusted(ping, SENDER, TERMS.observed, now)


@pytest.mark.parametrize(
    "change",
    [
        {"network": b"another!"},
        {"prover": NodeId(b"q" * 20)},
        {"asked": Endpoint("192.0.2.2", 4000)},
        {"asked": Endpoint("192.0.2.1", 4001)},
        {"asked": TERMS.observed, "observed": TERMS.asked},
        {"observed": Endpoint("2001:db8::1", 5000)},
        {"nonce": b"m" * 32},
    ],
)
def test_a_proof_is_worth_nothing_under_other_terms(change):
    pong = prove(prover())
    assert proven_key_untrusted(pong, TERMS) == KEY.public
    assert proven_key_untrusted(pong, TERMS._replace(**change)) is None


@pytest.mark.parametrize(
    "reply", [Stored(), Pong(), Pong(KEY.public), Pong(b"k", KEY.sign(b"x"))]
)
def test_another_reply_proves_nothing(reply):
    assert proven_key_untrusted(reply, TERMS) is None


def test_proofs_are_rationed_and_come_back_with_time():
    slow = prover(proofs_per_s=2)
    for _ in range(3):
        prove(slow)
    with pytest.raises(Refuse) as refusal:
        prove(slow)
    assert refusal.value.code == RefusalCode.BUSY
    prove(slow, now=1.0)


def test_a_flood_of_forged_sources_keeps_nobody_with_a_token_from_a_proof():
    slow = prover(proofs_per_s=10)

    def given(*, verified):
        proofs = 0
        for _ in range(100):
            with contextlib.suppress(Refuse):
                slow.prove_untrusted(
                    PING, SENDER, TERMS.observed, 0.0, verified=verified
                )
                proofs += 1
        return proofs

    assert given(verified=False) == 11
    assert given(verified=True) == 11
    assert given(verified=False) == 0


def test_a_node_without_a_key_gives_no_proof():
    with pytest.raises(Refuse) as refusal:
        prove(prover(key=None))
    assert refusal.value.code == FailureCode.NOT_SERVED


@pytest.mark.parametrize("asked", [b"", b"short", bytes(6)])
def test_a_request_that_names_no_address_is_refused(asked):
    with pytest.raises(Refuse) as refusal:
        prove(prover(), Ping(b"nonce", asked))
    assert refusal.value.code == RefusalCode.MALFORMED


def test_a_bound_node_signs_for_its_address_alone_and_a_wildcard_for_any():
    other = Ping(b"nonce", pack_endpoint(TERMS.observed))
    with pytest.raises(Refuse) as refusal:
        prove(prover(), other)
    assert refusal.value.code == FailureCode.OTHER_ADDRESS
    assert prove(prover(local=Endpoint("0.0.0.0", 4000)), other)


def test_a_node_that_was_told_its_addresses_goes_by_that():
    told = prover()
    told.may_be_ours = lambda asked: asked != TERMS.asked
    with pytest.raises(Refuse):
        prove(told)
    assert prove(told, Ping(b"nonce", pack_endpoint(TERMS.observed)))
