"""What an offer and an answer say inside their sealed messages, byte for byte.

Owns the payload's format, its bounds, and the choice of the candidates that fit.
Refuses to know how payloads are sealed and whether a certificate is genuine.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Annotated, Final, NamedTuple

import msgspec

from opnode.core.addresses import Candidate, Endpoint, IceHalf, pack, unpack_untrusted
from opnode.core.errors import LocalProtocolError, RemoteProtocolError
from opnode.core.peerfile import MAX_CERTIFICATE_SIZE

MAX_EARLY_DATA: Final = 1024
"""Bytes for the application in an offer or an answer: with all else, two datagrams."""
MAX_CANDIDATES: Final = 8
"""Candidates in one message: eight IPv6 ones with their bases still fit."""
MAX_INTRODUCERS: Final = 3
"""As many as a location keeps: through any of them the other end can signal later."""
MAX_RELAYS: Final = 2
"""Relay sessions in one message: a relay, and another one should it be full."""
SESSION_LENGTH: Final = 8
MAX_WITHDRAWN: Final = 4
"""Earlier offers that one message disowns: an attempt is made three times, plus one
that lost against a call from the other side."""
WITHDRAWN_LENGTH: Final = 16
"""Bytes of an offer's digest that name it: collisions take 2^64 work and gain nothing,
for only the offer's own sender is believed."""

_KINDS: Final = ("host", "srflx", "prflx", "relay")
_KIND_NUMBERS: Final = {kind: number for number, kind in enumerate(_KINDS)}
_MAX_PRIORITY: Final = 2**31 - 1
# RFC 8839 section 5.4 and 5.1: ice-char is a letter, a digit, "+" or "/".
_ICE_CHARS: Final = r"^[A-Za-z0-9+/]*\Z"

Ufrag = Annotated[str, msgspec.Meta(min_length=4, max_length=32, pattern=_ICE_CHARS)]
Password = Annotated[
    str, msgspec.Meta(min_length=22, max_length=64, pattern=_ICE_CHARS)
]
_Foundation = Annotated[
    str, msgspec.Meta(min_length=1, max_length=32, pattern=_ICE_CHARS)
]
_Withdrawn = Annotated[
    bytes, msgspec.Meta(min_length=WITHDRAWN_LENGTH, max_length=WITHDRAWN_LENGTH)
]
Session = Annotated[
    bytes, msgspec.Meta(min_length=SESSION_LENGTH, max_length=SESSION_LENGTH)
]


class RelayPoint(NamedTuple):
    """Where the sender joins, or joined, a session of a relay.

    Attributes:
        endpoint: Of the relay node.
        session: The 8 bytes that both ends show there.
    """

    endpoint: Endpoint
    session: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendezvous:
    """How the sender is reached beside its candidates; all of it is hints.

    Attributes:
        introducers: Where it is registered, or itself if it is its own introducer.
        relays: Relay sessions that it is ready to join.
    """

    introducers: tuple[Endpoint, ...] = ()
    relays: tuple[RelayPoint, ...] = ()


NO_RENDEZVOUS: Final = Rendezvous()


@dataclass(frozen=True, slots=True, kw_only=True)
class Half:
    """One side's part of an introduction; offers and answers have one shape.

    Attributes:
        certificate: The packed location certificate of the sender.
        ice: Its ICE half; the candidates in the order in which they travel.
        withdrawn: Short digests of its earlier offers that it no longer stands by.
        early_data: Bytes for the application above.
        rendezvous: Its introducers and relays.
    """

    certificate: bytes
    ice: IceHalf
    withdrawn: tuple[bytes, ...] = ()
    early_data: bytes = field(default=b"", repr=False)
    rendezvous: Rendezvous = NO_RENDEZVOUS


def encode(half: Half, rooms: tuple[int, ...]) -> bytes:
    """Return a payload that fits.

    The smallest room that takes all of it is used. What is larger goes to the largest
    room that early data is worth, and leaves out candidates, the least useful first;
    one always stays when there was one.

    Args:
        half: What to say.
        rooms: Sizes in bytes, growing: of one datagram, then of two.

    Raises:
        LocalProtocolError: Even so it does not fit, or a field is outside its bounds.
    """
    ranked = most_useful_first(half.ice.candidates)[:MAX_CANDIDATES]
    payload = _encode(half, ranked)
    # Only early data is worth another datagram; candidates can be told later.
    fitting = [room for room in rooms if len(payload) <= room]
    room = rooms[-1 if half.early_data else 0]
    if not (half.early_data and fitting):
        while len(payload) > room and len(ranked) > 1:
            ranked.pop()
            payload = _encode(half, ranked)
    if len(payload) > room:
        raise LocalProtocolError(
            f"introduction payload: found {len(payload)} bytes, of them "
            f"{len(half.early_data)} of early data, expected at most {room}"
        )
    try:
        decode_untrusted(payload)
    except RemoteProtocolError as error:
        # The reader's bounds are the only ones; a second list would drift from them.
        raise LocalProtocolError(f"introduction of our own: {error}") from None
    return payload


def decode_untrusted(data: bytes) -> Half:
    """Read a payload.

    Raises:
        RemoteProtocolError: The bytes break the format or one of its bounds.
    """
    try:
        wire = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(
            f"introduction payload of {len(data)} bytes: {error}"
        ) from None
    candidates = tuple(read_candidate_untrusted(item) for item in wire.candidates)
    return Half(
        certificate=wire.certificate,
        ice=IceHalf(wire.ufrag, wire.password, candidates),
        withdrawn=wire.withdrawn,
        early_data=wire.early_data,
        rendezvous=read_rendezvous_untrusted(wire.introducers, wire.relays),
    )


class CandidateWire(
    msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True
):
    """One candidate as it travels."""

    kind: Annotated[int, msgspec.Meta(ge=0, lt=len(_KINDS))]
    endpoint: bytes
    priority: Annotated[int, msgspec.Meta(ge=1, le=_MAX_PRIORITY)]
    foundation: _Foundation
    related: bytes | None


RelayWire = tuple[bytes, Session]
"""A packed endpoint and a session."""


class _HalfWire(
    msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True
):
    certificate: Annotated[bytes, msgspec.Meta(max_length=MAX_CERTIFICATE_SIZE)]
    ufrag: Ufrag
    password: Password
    candidates: Annotated[
        tuple[CandidateWire, ...], msgspec.Meta(max_length=MAX_CANDIDATES)
    ]
    withdrawn: Annotated[tuple[_Withdrawn, ...], msgspec.Meta(max_length=MAX_WITHDRAWN)]
    early_data: Annotated[bytes, msgspec.Meta(max_length=MAX_EARLY_DATA)]
    introducers: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=MAX_INTRODUCERS)]
    relays: Annotated[tuple[RelayWire, ...], msgspec.Meta(max_length=MAX_RELAYS)]


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_HalfWire)


def _encode(half: Half, candidates: Iterable[Candidate]) -> bytes:
    ordered = sorted(candidates, key=_by_priority)
    return _ENCODER.encode(
        _HalfWire(
            certificate=half.certificate,
            ufrag=half.ice.ufrag,
            password=half.ice.password,
            candidates=tuple(write_candidate(candidate) for candidate in ordered),
            withdrawn=half.withdrawn[-MAX_WITHDRAWN:],
            early_data=half.early_data,
            introducers=write_introducers(half.rendezvous),
            relays=write_relays(half.rendezvous),
        )
    )


def write_introducers(rendezvous: Rendezvous) -> tuple[bytes, ...]:
    """The introducers as they travel; more than fit are left out."""
    return tuple(map(pack, rendezvous.introducers[:MAX_INTRODUCERS]))


def write_relays(rendezvous: Rendezvous) -> tuple[RelayWire, ...]:
    """The relay sessions as they travel; more than fit are left out."""
    relays = rendezvous.relays[:MAX_RELAYS]
    return tuple((pack(relay.endpoint), relay.session) for relay in relays)


def read_rendezvous_untrusted(
    introducers: Iterable[bytes], relays: Iterable[RelayWire]
) -> Rendezvous:
    """Parse what travels; RemoteProtocolError when an address is none."""
    return Rendezvous(
        introducers=tuple(map(unpack_untrusted, introducers)),
        relays=tuple(
            RelayPoint(unpack_untrusted(endpoint), session)
            for endpoint, session in relays
        ),
    )


def _by_priority(candidate: Candidate) -> int:
    return -candidate.priority


def most_useful_first(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Take turns between the kinds, the highest priority first within each.

    By priority alone, a machine with eight virtual interfaces would send eight host
    candidates and drop the reflexive one that gets through its NAT.
    """
    columns: dict[str, list[Candidate]] = {}
    for candidate in sorted(candidates, key=_by_priority):
        columns.setdefault(candidate.kind, []).append(candidate)
    rows = zip_longest(*columns.values())
    return [candidate for row in rows for candidate in row if candidate is not None]


def write_candidate(candidate: Candidate) -> CandidateWire:
    """A candidate as it travels; LocalProtocolError for an unknown kind."""
    if candidate.kind not in _KIND_NUMBERS:
        raise LocalProtocolError(
            f"candidate kind: found {candidate.kind!r}, expected one of {_KINDS}"
        )
    return CandidateWire(
        kind=_KIND_NUMBERS[candidate.kind],
        endpoint=pack(candidate.endpoint),
        priority=candidate.priority,
        foundation=candidate.foundation,
        related=_pack_optional(candidate.related),
    )


def _pack_optional(endpoint: Endpoint | None) -> bytes | None:
    return None if endpoint is None else pack(endpoint)


def read_candidate_untrusted(wire: CandidateWire) -> Candidate:
    """Parse what travels; RemoteProtocolError when an address is none."""
    related = None if wire.related is None else unpack_untrusted(wire.related)
    return Candidate(
        kind=_KINDS[wire.kind],
        endpoint=unpack_untrusted(wire.endpoint),
        priority=wire.priority,
        foundation=wire.foundation,
        related=related,
    )
