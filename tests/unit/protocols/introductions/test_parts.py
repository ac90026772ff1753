"""Messages in one datagram or two."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opnode.core.errors import LocalProtocolError, RemoteProtocolError
from opnode.protocols.introductions.parts import (
    MAX_PART,
    MAX_SEALED,
    MAX_WHOLE,
    OfferParts,
    asking_for,
    join_untrusted,
    parse_untrusted,
    split,
)


def noise(size: int) -> bytes:
    return bytes(n * 7 % 251 for n in range(size))


@given(size=st.integers(1, MAX_SEALED), backwards=st.booleans())
def test_what_was_split_is_joined_in_any_order(size: int, backwards: bool):
    parts = split(noise(size))
    assert all(len(part) <= MAX_PART for part in parts)
    assert len(parts) == (1 if size <= MAX_WHOLE else 2)
    parsed = tuple(map(parse_untrusted, parts))
    assert join_untrusted(parsed[::-1] if backwards else parsed) == noise(size)


def test_what_is_longer_than_two_datagrams_is_a_bug_of_ours():
    with pytest.raises(LocalProtocolError, match="found 2181"):
        split(bytes(MAX_SEALED + 1))


def test_each_part_asks_for_the_same_part_of_the_answer_or_for_another():
    first, second = split(noise(2000))
    assert [parse_untrusted(part).wanted for part in (first, second)] == [0, 1]
    (only,) = split(noise(100))
    again = parse_untrusted(asking_for(only, 1))
    assert (again.wanted, again.chunk) == (1, noise(100))


@given(data=st.binary(max_size=30) | st.just(bytes(MAX_PART + 1)))
def test_whatever_comes_is_a_part_or_refused(data: bytes):
    try:
        part = parse_untrusted(data)
    except RemoteProtocolError:
        return
    assert part.index < part.count <= 2
    assert part.chunk


def test_parts_of_different_messages_are_not_joined():
    one, other = split(noise(2000)), split(noise(2001))
    with pytest.raises(RemoteProtocolError, match="different"):
        join_untrusted((parse_untrusted(one[0]), parse_untrusted(other[1])))
    with pytest.raises(RemoteProtocolError, match="missing"):
        join_untrusted((parse_untrusted(one[0]),))


def test_an_offer_is_whole_when_its_other_part_came_whichever_was_first():
    for order in ((0, 1), (1, 0)):
        table, parts = OfferParts(), split(noise(2000))
        assert table.add(parse_untrusted(parts[order[0]])) is None
        assert table.add(parse_untrusted(parts[order[1]])) == noise(2000)
        table.forget(parse_untrusted(parts[0]).tag)
        assert len(table) == 0


def test_a_part_that_was_changed_does_not_spoil_the_genuine_one():
    table, (first, second) = OfferParts(), split(noise(2000))
    table.add(parse_untrusted(first[:-1] + b"?"))
    table.add(parse_untrusted(second))
    assert table.add(parse_untrusted(first)) == noise(2000)


def test_i_13_halves_of_offers_that_never_come_take_bounded_room():
    table = OfferParts(max_offers=4)
    for number in range(100):
        part = parse_untrusted(split(bytes([number]) * 2000)[0])
        for change in range(10):
            changed = split(bytes([number]) * 2000)[0][:-1] + bytes([change])
            table.add(parse_untrusted(changed))
        table.add(part)
    assert len(table) == 4
    assert all(len(one) <= 3 for one, _ in table._chunks.values())
