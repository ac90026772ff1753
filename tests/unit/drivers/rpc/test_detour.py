"""`detour`: what a gateway is asked to send, and what its answer counts as."""

import pytest

from opnode.core.addresses import Endpoint
from opnode.core.ids import NodeId
from opnode.drivers.rpc.detour import Detour, unwrap_untrusted, wrap
from opnode.drivers.rpc.exchange import Answer
from opnode.protocols.rpc.datagrams import (
    ReplyDatagram,
    decode_request_body_untrusted,
    encode_body,
)
from opnode.protocols.rpc.messages import (
    DialBack,
    Failure,
    FindNode,
    Forwarded,
    Nodes,
    Noted,
    Ping,
    Service,
    Watch,
    unpack_endpoint_untrusted,
)

GATES = (Endpoint("192.0.2.1", 1), Endpoint("192.0.2.2", 2))
TARGET = Endpoint("192.0.2.9", 9)
NODE = NodeId(b"n" * 20)


def reply(body):
    return ReplyDatagram(bytes(8), NodeId(b"g" * 20), False, b"", GATES[0], body)


def test_gateways_take_turns_while_there_are_some_and_are_asked_themselves():
    detour = Detour()
    body = FindNode(bytes(20))
    assert detour.of(TARGET, body) is None
    detour.gateways = GATES
    assert {detour.of(TARGET, body), detour.of(TARGET, body)} == set(GATES)
    assert detour.of(GATES[0], body) is None


@pytest.mark.parametrize(
    "body", [Ping(b"nonce"), Watch(bytes(20), 60), DialBack(bytes(16))]
)
def test_what_is_answered_to_the_sender_itself_is_not_forwarded(body):
    detour = Detour()
    detour.gateways = GATES
    assert detour.of(TARGET, body) is None


def test_a_wrapped_request_names_whom_to_ask_what():
    wrapped = wrap(TARGET, FindNode(bytes(20)))
    assert unpack_endpoint_untrusted(wrapped.address) == TARGET
    assert decode_request_body_untrusted(wrapped.request) == FindNode(bytes(20))


def test_an_answer_counts_as_that_of_whoever_was_asked():
    body = Forwarded(NODE, 0x01 | Service.RELAY, encode_body(Nodes(())))
    answer = unwrap_untrusted(reply(body), TARGET, 0.1)
    assert type(answer) is Answer
    assert (answer.body, answer.contact) == (Nodes(()), (NODE, TARGET))
    assert answer.leaf
    assert answer.services is Service.RELAY


def test_what_a_gateway_makes_up_is_a_failure_and_no_error():
    refused = Failure(2, "busy")
    assert unwrap_untrusted(reply(refused), TARGET, 0.1) is refused
    for body in (Noted(), Forwarded(NODE, 0, b"\xff\xff")):
        assert type(unwrap_untrusted(reply(body), TARGET, 0.1)) is Failure
