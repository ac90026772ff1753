"""The exchange of two ends whose KEY_SHARE parts are carried by hand."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from opnode.core.crypto import MlKem768
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.frames import MAX_KEY_SHARE_PART
from opnode.protocols.rudp.hybrid import (
    PART_SIZES,
    PARTS,
    ExchangeState,
    HybridExchange,
)
from opnode.protocols.rudp.packet_keys import PacketKeys
from opnode.protocols.rudp.violation import CloseCode, PeerViolationError
from opnode.testing.keys import SeededKem
from opnode.testing.pair import seeded_keys

NONCE = bytes(12)
WRONG_PARTS = [
    (PARTS, PART_SIZES[True]),
    (255, PART_SIZES[True]),
    (0, 0),
    (0, PART_SIZES[True] - 1),
    (1, PART_SIZES[True] + 1),
    (0, PART_SIZES[False]),
]


class ExchangeEnd:
    def __init__(self, *, initiator: bool, kem=None) -> None:
        keys = seeded_keys()[0 if initiator else 1]
        self.keys = PacketKeys(keys, initiator=initiator, config=RudpConfig())
        self.exchange = HybridExchange(self.keys, kem or SeededKem(str(initiator)))

    @property
    def state(self) -> ExchangeState:
        return self.exchange.state

    def parts(self) -> list[tuple[int, bytes]]:
        return [(number, self.exchange.part(number)) for number in range(PARTS)]

    def take(self, parts: list[tuple[int, bytes]]) -> list[bool]:
        return [self.exchange.on_part(*part) for part in parts]


class ExchangePair(NamedTuple):
    a: ExchangeEnd
    b: ExchangeEnd

    def have_the_same_next_keys(self) -> bool:
        self.a.keys.start(0.0)
        if not self.a.keys.update(0, 0.0):
            return False
        sealed = self.a.keys.encrypt(NONCE, b"hello", None)
        text = self.b.keys.open_other_phase(0, NONCE, sealed, expected=0, now=0.0)
        return text == b"hello"


def new_pair(kem: Callable[[], object] = lambda: None) -> ExchangePair:
    return ExchangePair(
        ExchangeEnd(initiator=True, kem=kem()), ExchangeEnd(initiator=False, kem=kem())
    )


def offered_pair() -> ExchangePair:
    pair = new_pair()
    pair.a.exchange.offer()
    return pair


def answered_pair() -> ExchangePair:
    pair = offered_pair()
    pair.b.take(pair.a.parts())
    return pair


def wrong(end: ExchangeEnd, *part: object) -> str:
    with pytest.raises(PeerViolationError) as caught:
        end.exchange.on_part(*part)
    assert caught.value.code is CloseCode.KEY_SHARE
    return str(caught.value)


@pytest.mark.parametrize("kem", [MlKem768, lambda: None])
def test_both_ends_come_to_the_same_keys(kem):
    pair = new_pair(kem)
    pair.a.exchange.offer()
    assert pair.b.take(pair.a.parts()) == [False, True]
    assert pair.a.take(pair.b.parts()) == [False, True]
    assert pair.have_the_same_next_keys()


def test_only_the_initiator_starts_and_only_once():
    pair = new_pair()
    assert pair.a.exchange.wants_start
    assert not pair.b.exchange.wants_start
    pair.a.exchange.offer()
    assert not pair.a.exchange.wants_start


def test_there_is_nothing_to_send_before_the_start():
    pair = new_pair()
    for end in pair:
        assert [data for _, data in end.parts()] == [b"", b""]


def test_a_part_fits_its_frame():
    assert max(PART_SIZES.values()) <= MAX_KEY_SHARE_PART
    for end in answered_pair():
        size = PART_SIZES[end.exchange._initiator]
        assert [len(data) for _, data in end.parts()] == [size, size]


def test_parts_may_come_in_any_order_and_more_than_once():
    pair = offered_pair()
    first, second = pair.a.parts()
    assert pair.b.take([second, second, first]) == [False, False, True]
    first, second = pair.b.parts()
    assert pair.a.take([second, second, first]) == [False, False, True]
    assert pair.have_the_same_next_keys()


def test_copies_that_come_late_are_ignored():
    pair = answered_pair()
    offer, answer = pair.a.parts(), pair.b.parts()
    assert pair.b.take(offer) == [False, False]
    pair.a.take(answer)
    assert pair.a.take(answer) == [False, False]
    pair.b.exchange.finish()
    assert pair.b.take(offer) == [False, False]
    assert pair.have_the_same_next_keys()


@pytest.mark.parametrize(("number", "size"), WRONG_PARTS)
def test_a_part_with_another_number_or_size_closes(number, size):
    assert "key share" in wrong(offered_pair().b, number, bytes(size))


def test_a_part_of_a_wrong_size_closes_after_the_end_as_well():
    pair = answered_pair()
    pair.b.exchange.finish()
    wrong(pair.b, 0, b"")


def test_a_part_that_changes_closes():
    pair = offered_pair()
    number, data = pair.a.parts()[0]
    pair.b.exchange.on_part(number, data)
    assert "other bytes" in wrong(pair.b, number, data[::-1])


def test_an_answer_without_an_offer_closes():
    pair = new_pair()
    assert "not sent" in wrong(pair.a, 0, bytes(PART_SIZES[False]))


@pytest.mark.parametrize("kem", [MlKem768, lambda: SeededKem("b")])
def test_bytes_that_are_no_encapsulation_key_close(kem):
    end = ExchangeEnd(initiator=False, kem=kem())
    part = b"\xff" * PART_SIZES[True]
    end.exchange.on_part(0, part)
    assert "no encapsulation key" in wrong(end, 1, part)


@pytest.mark.parametrize("kem", [MlKem768, lambda: SeededKem("b")])
@pytest.mark.parametrize("at", [0, 551, 552, 1087, 1088, 1103])
def test_one_changed_bit_in_the_answer_closes(kem, at):
    pair = new_pair(kem)
    pair.a.exchange.offer()
    pair.b.take(pair.a.parts())
    answer = bytearray(b"".join(data for _, data in pair.b.parts()))
    answer[at] ^= 1
    size = PART_SIZES[False]
    pair.a.exchange.on_part(0, bytes(answer[:size]))
    assert "other keys" in wrong(pair.a, 1, bytes(answer[size:]))


def test_an_answer_to_another_offer_closes():
    first, second = answered_pair(), new_pair()
    second.a.exchange._kem = SeededKem("another")
    second.a.exchange.offer()
    number, data = first.b.parts()[0]
    second.a.exchange.on_part(number, data)
    assert "other keys" in wrong(second.a, *first.b.parts()[1])


def test_nothing_of_the_exchange_is_kept_once_it_is_done():
    pair = answered_pair()
    pair.a.take(pair.b.parts())
    pair.b.exchange.finish()
    for end in pair:
        exchange = end.exchange
        assert end.state is ExchangeState.DONE
        assert (exchange._key, exchange._message, exchange._parts) == (None, b"", {})
        assert [data for _, data in end.parts()] == [b"", b""]
