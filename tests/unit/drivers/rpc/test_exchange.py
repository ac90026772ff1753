"""`exchange`: a waiter keeps what became of its request."""

from opnode.core.addresses import Endpoint
from opnode.core.errors import RequestTimeout
from opnode.core.ids import Contact, NodeId
from opnode.drivers.rpc.exchange import Answer, IncomingRequest, Waiter
from opnode.protocols.rpc.messages import Ping, Pong

HERE = Endpoint("192.0.2.1", 1)


def test_a_waiter_wakes_with_the_answer_and_not_because_it_is_late():
    waiter = Waiter()
    waiter.slow()
    assert not waiter.done.is_set()
    answer = Answer(Pong(), Contact(NodeId(bytes(20)), HERE), 0.1, HERE, leaf=False)
    waiter.answered(answer)
    assert waiter.done.is_set()
    assert waiter.answer is answer


def test_a_waiter_wakes_with_the_error():
    waiter = Waiter()
    error = RequestTimeout("nobody")
    waiter.failed(error)
    assert waiter.done.is_set()
    assert waiter.error is error


def test_a_request_knows_its_sender_as_a_contact():
    node_id = NodeId(bytes(range(20)))
    request = IncomingRequest(Ping(), HERE, node_id, False, True, bytes(8), 57, 100)
    assert request.contact == Contact(node_id, HERE)
