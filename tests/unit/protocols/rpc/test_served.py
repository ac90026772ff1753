"""`served`: a request is acted on once, however often it arrives."""

from opnode.core.addresses import Endpoint
from opnode.protocols.rpc.served import Seen, ServedConfig, ServedRequests

KEY = (Endpoint("192.0.2.1", 4000), b"12345678")
FROM_ELSEWHERE = (Endpoint("192.0.2.2", 4000), b"12345678")


def key_of(number):
    return (Endpoint("192.0.2.1", 4000), number.to_bytes(8))


def test_a_request_is_new_then_under_way_then_answered():
    served = ServedRequests(ServedConfig())
    assert served.look(KEY) is Seen.NEW
    served.defer(KEY, 0.0)
    assert served.look(KEY) is Seen.UNDER_WAY
    assert len(served) == 1
    assert served.settle(KEY)
    served.remember(KEY, b"answer")
    assert served.look(KEY) is Seen.ANSWERED
    assert served.answer(KEY) == b"answer"
    assert len(served) == 0


def test_the_same_transaction_id_from_another_source_is_new():
    served = ServedRequests(ServedConfig())
    served.defer(KEY, 0.0)
    assert served.look(FROM_ELSEWHERE) is Seen.NEW


def test_an_answer_later_than_its_time_is_nobodys():
    served = ServedRequests(ServedConfig(answer_within_s=30))
    served.defer(KEY, 0.0)
    served.defer(FROM_ELSEWHERE, 30.5)
    assert not served.settle(KEY)
    assert served.settle(FROM_ELSEWHERE)


def test_the_oldest_deferred_request_makes_room():
    served = ServedRequests(ServedConfig(max_deferred=2))
    for number in range(3):
        served.defer(key_of(number), float(number))
    assert served.look(key_of(0)) is Seen.NEW
    assert served.look(key_of(2)) is Seen.UNDER_WAY
    assert len(served) == 2


def test_the_oldest_answer_makes_room():
    served = ServedRequests(ServedConfig(max_answers=2))
    for number in range(3):
        served.remember(key_of(number), b"answer")
    assert served.look(key_of(0)) is Seen.NEW
    assert served.look(key_of(1)) is Seen.ANSWERED
