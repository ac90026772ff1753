"""Payloads of offers and answers: round trip, bounds, choice of candidates."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opnode.core.addresses import Candidate, Endpoint, IceHalf
from opnode.core.errors import LocalProtocolError, RemoteProtocolError
from opnode.protocols.introductions.messages import (
    MAX_CANDIDATES,
    MAX_INTRODUCERS,
    MAX_RELAYS,
    MAX_WITHDRAWN,
    Half,
    RelayPoint,
    Rendezvous,
    decode_untrusted,
    encode,
)
from opnode.protocols.introductions.parts import MAX_SEALED, MAX_WHOLE
from tests.unit.protocols.introductions.people import (
    PASSWORD,
    host_candidate,
    ice_half,
    reflexive_candidate,
)

ROOM = MAX_WHOLE - 96
ROOMS = (ROOM, MAX_SEALED - 96)
ICE_CHARS = "ABCXYZabcxyz0189+/"

hosts = st.ip_addresses(v=4, network="192.0.0.0/8").map(str) | st.ip_addresses(
    v=6, network="2001:db8::/32"
).map(str)
endpoints = st.builds(Endpoint, hosts, st.integers(1, 65535))
candidates = st.builds(
    Candidate,
    kind=st.sampled_from(["host", "srflx", "prflx", "relay"]),
    endpoint=endpoints,
    priority=st.integers(1, 2**31 - 1),
    foundation=st.text(ICE_CHARS, min_size=1, max_size=32),
    related=st.none() | endpoints,
)
halves = st.builds(
    Half,
    certificate=st.binary(max_size=242),
    ice=st.builds(
        IceHalf,
        st.text(ICE_CHARS, min_size=4, max_size=8),
        st.text(ICE_CHARS, min_size=22, max_size=24),
        st.lists(candidates, max_size=MAX_CANDIDATES).map(tuple),
    ),
    withdrawn=st.lists(st.binary(min_size=16, max_size=16), max_size=MAX_WITHDRAWN).map(
        tuple
    ),
    early_data=st.binary(max_size=100),
    rendezvous=st.builds(
        Rendezvous,
        introducers=st.lists(endpoints, max_size=MAX_INTRODUCERS).map(tuple),
        relays=st.lists(
            st.builds(RelayPoint, endpoints, st.binary(min_size=8, max_size=8)),
            max_size=MAX_RELAYS,
        ).map(tuple),
    ),
)


def half_with(ice: IceHalf, early_data: bytes = b"") -> Half:
    return Half(certificate=bytes(240), ice=ice, early_data=early_data)


def without_order(half: Half) -> Half:
    """The same with candidates in an order that their content alone decides."""
    found = tuple(sorted(half.ice.candidates, key=repr))
    return replace(half, ice=replace(half.ice, candidates=found))


@given(half=halves)
def test_what_was_encoded_is_decoded_with_candidates_by_priority(half: Half):
    decoded = decode_untrusted(encode(half, (2 * MAX_SEALED,)))
    assert without_order(decoded) == without_order(half)
    priorities = [candidate.priority for candidate in decoded.ice.candidates]
    assert priorities == sorted(priorities, reverse=True)


def test_the_latest_withdrawn_offers_travel_when_there_are_too_many():
    names = tuple(bytes([number]) * 16 for number in range(MAX_WITHDRAWN + 2))
    half = replace(half_with(ice_half()), withdrawn=names)
    assert decode_untrusted(encode(half, (ROOM,))).withdrawn == names[2:]


def test_many_host_candidates_do_not_crowd_out_the_reflexive_one():
    crowd = [host_candidate(number) for number in range(1, 21)]
    half = half_with(ice_half("ufra", *crowd, reflexive_candidate()))
    sent = decode_untrusted(encode(half, (ROOM,))).ice.candidates
    assert len(sent) == MAX_CANDIDATES
    assert reflexive_candidate() in sent
    assert host_candidate(1) in sent
    assert host_candidate(20) not in sent


def test_candidates_make_room_for_early_data_but_one_stays():
    eight = [host_candidate(number) for number in range(1, 9)]
    half = half_with(ice_half("ufra", *eight), early_data=bytes(600))
    payload = encode(half, (ROOM,))
    assert len(payload) <= ROOM
    assert decode_untrusted(payload).ice.candidates == tuple(eight[:2])


def test_early_data_that_does_not_fit_one_datagram_takes_the_room_of_two():
    eight = [host_candidate(number) for number in range(1, 9)]
    for size, room in ((100, ROOM), (1024, ROOMS[1])):
        half = half_with(ice_half("ufra", *eight), early_data=bytes(size))
        payload = encode(half, ROOMS)
        assert len(payload) <= room
        assert decode_untrusted(payload).ice.candidates == tuple(eight)
    assert len(payload) > ROOM


def test_candidates_alone_are_not_worth_a_second_datagram():
    long = [
        replace(
            reflexive_candidate(number),
            endpoint=Endpoint(f"2001:db8::{number}", 4000),
            related=Endpoint(f"2001:db8::1:{number}", 4000),
        )
        for number in range(1, 9)
    ]
    introducers = tuple(Endpoint(f"2001:db8::{n}", 4000) for n in range(1, 4))
    half = replace(
        half_with(ice_half("ufra", *long)),
        withdrawn=(bytes(16),) * MAX_WITHDRAWN,
        rendezvous=Rendezvous(introducers=introducers),
    )
    assert len(encode(half, ROOMS)) <= ROOM


def test_early_data_beyond_the_room_is_refused_with_both_sizes():
    with pytest.raises(LocalProtocolError, match=f"900 of early .* at most {ROOM}"):
        encode(half_with(ice_half(), early_data=bytes(900)), (ROOM,))


@pytest.mark.parametrize(
    "ice",
    [
        IceHalf("abc", PASSWORD, ()),
        IceHalf("white space", PASSWORD, ()),
        IceHalf("ufra\n", PASSWORD, ()),
        IceHalf("ufra", "short", ()),
        ice_half("ufra", replace(host_candidate(), priority=0)),
        ice_half("ufra", replace(host_candidate(), foundation="")),
        ice_half("ufra", replace(host_candidate(), endpoint=Endpoint("192.0.2.1", 0))),
        ice_half("ufra", replace(host_candidate(), kind="carrier pigeon")),
    ],
)
def test_a_half_that_no_reader_would_take_is_not_written(ice: IceHalf):
    with pytest.raises(LocalProtocolError):
        encode(half_with(ice), (ROOM,))


ADDRESS = bytes([192, 0, 2, 1, 0, 80])
GOOD = [bytes(240), "ufra", PASSWORD, [], [], b"", [], []]
CANDIDATE = [0, ADDRESS, 1, "f", None]


@pytest.mark.parametrize(
    ("place", "found"),
    [
        (0, bytes(243)),
        (1, "u" * 33),
        (1, b"ufra"),
        (2, "p" * 65),
        (3, [CANDIDATE] * (MAX_CANDIDATES + 1)),
        (3, [[4, *CANDIDATE[1:]]]),
        (3, [[0, b"short", *CANDIDATE[2:]]]),
        (3, [[*CANDIDATE[:4], b"short"]]),
        (3, [[*CANDIDATE, "more"]]),
        (4, [bytes(15)]),
        (4, [bytes(16)] * (MAX_WITHDRAWN + 1)),
        (5, bytes(MAX_SEALED + 1)),
        (5, "text"),
        (6, [ADDRESS] * (MAX_INTRODUCERS + 1)),
        (6, [b"short"]),
        (7, [[ADDRESS, bytes(8)]] * (MAX_RELAYS + 1)),
        (7, [[ADDRESS, bytes(7)]]),
        (7, [[b"short", bytes(8)]]),
    ],
)
def test_a_field_outside_its_bounds_is_refused(place: int, found: object):
    fields = [*GOOD[:place], found, *GOOD[place + 1 :]]
    with pytest.raises(RemoteProtocolError):
        decode_untrusted(msgspec.msgpack.encode(fields))


@pytest.mark.parametrize("fields", [GOOD[:7], [*GOOD, 1], {}, None])
def test_another_shape_is_refused(fields: object):
    with pytest.raises(RemoteProtocolError, match="introduction payload of"):
        decode_untrusted(msgspec.msgpack.encode(fields))


def test_text_that_is_not_utf_8_is_refused():
    payload = msgspec.msgpack.encode(GOOD).replace(b"ufra", b"uf\xff\xff")
    with pytest.raises(RemoteProtocolError):
        decode_untrusted(payload)


def test_the_plain_payload_decodes_so_that_the_refusals_mean_something():
    fields = [*GOOD[:3], [CANDIDATE], *GOOD[4:]]
    half = decode_untrusted(msgspec.msgpack.encode(fields))
    assert half.ice.candidates[0].endpoint == Endpoint("192.0.2.1", 80)


def test_passwords_and_early_data_stay_out_of_representations():
    half = half_with(ice_half(), early_data=b"secret words")
    assert PASSWORD not in repr(half)
    assert "secret words" not in repr(half)
