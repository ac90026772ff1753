"""Words between two ends who share keys but may have lost their path.

Owns the sealing, numbering and format of signals. Sans-I/O, and without time: who holds
a `SignalBox` decides when to send and how often. Refuses to know how signals travel and
what comes of them.

The numbered rules (S-…) are those of ``docs/protocols/introductions.md``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from opnode.core.addresses import Candidate, IceHalf
from opnode.core.crypto import (
    AeadError,
    TransportKeys,
    expand,
    extract,
    keyed_digest,
    new_aead,
)
from opnode.core.errors import LocalProtocolError, RemoteProtocolError
from opnode.protocols.introductions.messages import (
    MAX_CANDIDATES,
    MAX_INTRODUCERS,
    MAX_RELAYS,
    CandidateWire,
    Password,
    RelayWire,
    Rendezvous,
    Ufrag,
    most_useful_first,
    read_candidate_untrusted,
    read_rendezvous_untrusted,
    write_candidate,
    write_introducers,
    write_relays,
)

MAX_SIGNAL: Final = 1100
"""Bytes of a sealed signal: one datagram with every header around it."""
TAG_LENGTH: Final = 8
MAX_AHEAD: Final = 16
"""Signals that may be under way unheard: each tells all that is known, so only the
newest matters, and the receiver holds a tag in its table for each (2 kB in all)."""
MAX_GENERATION: Final = 2**32 - 1

_SEAL_SIZE: Final = TAG_LENGTH + 16
_KEY_SIZE: Final = 32
_LABELS: Final = {
    True: b"opnode signals of the initiator",
    False: b"opnode signals of the responder",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """All that one end has to say about how it is reached now.

    Attributes:
        generation: Of the ICE credentials; a higher one begins new checks.
        ice: Its ICE half of that generation.
        rendezvous: Its introducers and relays.
        wants_answer: Whether a signal in reply is asked for; else it is one.
    """

    generation: int
    ice: IceHalf
    rendezvous: Rendezvous
    wants_answer: bool


class SignalBox:
    """Seals and opens the signals of one connection.

    Attributes:
        duplicates: Copies of the newest signal that were opened.
        is_heard: Whether the other end has our newest signal.
    """

    __slots__ = (
        "_heard_of_ours",
        "_next_in",
        "_next_out",
        "_open",
        "_seal",
        "_tag_in",
        "_tag_out",
        "duplicates",
    )

    def __init__(self, keys: TransportKeys, *, initiator: bool) -> None:
        """Derive the keys of both directions; they are of no other use (S-1)."""
        both = keys.send + keys.receive if initiator else keys.receive + keys.send
        root = extract(keys.handshake_hash, both)
        out = expand(root, _LABELS[initiator], 2 * _KEY_SIZE)
        into = expand(root, _LABELS[not initiator], 2 * _KEY_SIZE)
        self._seal, self._tag_out = new_aead(out[:_KEY_SIZE]), out[_KEY_SIZE:]
        self._open, self._tag_in = new_aead(into[:_KEY_SIZE]), into[_KEY_SIZE:]
        self._next_out = self._next_in = self._heard_of_ours = 0
        self.duplicates = 0

    @property
    def is_heard(self) -> bool:
        """Whether the other end has told that it has our newest signal."""
        return self._heard_of_ours == self._next_out

    def tags(self) -> dict[bytes, int]:
        """The first bytes of signals that are for this box now, with their numbers.

        Each signal has another tag, so that who passes them cannot tell which belong
        together (S-3). They change when a signal was opened.
        """
        first = max(self._next_in - 1, 0)
        last = self._next_in + MAX_AHEAD
        return {_tag(self._tag_in, number): number for number in range(first, last)}

    def seal(self, signal: Signal) -> bytes:
        """Return the next signal; candidates that do not fit are left out.

        Raises:
            LocalProtocolError: Too many are unheard, or it breaks a bound.
        """
        number = self._next_out
        if number >= self._heard_of_ours + MAX_AHEAD:
            raise LocalProtocolError(f"{MAX_AHEAD} signals are unheard already")
        payload = _encode(signal, heard=self._next_in)
        self._next_out += 1
        sealed = self._seal.encrypt(_nonce(number), payload, None)
        return _tag(self._tag_out, number) + sealed

    def open_untrusted(self, sealed: bytes) -> Signal | None:
        """Open a signal.

        Returns:
            What it says, or None for a copy of the newest one, which came before.

        Raises:
            RemoteProtocolError: Not sealed by the other end, older than the newest, or
                outside the format's bounds.
        """
        number = self.tags().get(sealed[:TAG_LENGTH])
        if number is None or len(sealed) > MAX_SIGNAL:
            raise RemoteProtocolError(f"a signal of {len(sealed)} bytes is not for us")
        try:
            payload = self._open.decrypt(_nonce(number), sealed[TAG_LENGTH:], None)
        except AeadError:
            raise RemoteProtocolError("a signal does not authenticate") from None
        signal, heard = _decode_untrusted(payload)
        # S-2: whatever its order, what was heard of ours only grows.
        self._heard_of_ours = max(self._heard_of_ours, min(heard, self._next_out))
        if number < self._next_in:
            self.duplicates += 1
            return None
        self._next_in = number + 1
        return signal


class _SignalWire(
    msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True
):
    generation: Annotated[int, msgspec.Meta(ge=0, le=MAX_GENERATION)]
    heard: Annotated[int, msgspec.Meta(ge=0, le=MAX_GENERATION)]
    wants_answer: bool
    ufrag: Ufrag
    password: Password
    candidates: Annotated[
        tuple[CandidateWire, ...], msgspec.Meta(max_length=MAX_CANDIDATES)
    ]
    introducers: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=MAX_INTRODUCERS)]
    relays: Annotated[tuple[RelayWire, ...], msgspec.Meta(max_length=MAX_RELAYS)]


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_SignalWire)


def _encode(signal: Signal, *, heard: int) -> bytes:
    ranked = most_useful_first(signal.ice.candidates)[:MAX_CANDIDATES]
    payload = _payload(signal, ranked, heard)
    while len(payload) + _SEAL_SIZE > MAX_SIGNAL and ranked:
        ranked.pop()
        payload = _payload(signal, ranked, heard)
    try:
        _decode_untrusted(payload)
    except RemoteProtocolError as error:
        # The reader's bounds are the only ones; a second list would drift from them.
        raise LocalProtocolError(f"signal of our own: {error}") from None
    return payload


def _payload(signal: Signal, candidates: Iterable[Candidate], heard: int) -> bytes:
    return _ENCODER.encode(
        _SignalWire(
            generation=signal.generation,
            heard=heard,
            wants_answer=signal.wants_answer,
            ufrag=signal.ice.ufrag,
            password=signal.ice.password,
            candidates=tuple(map(write_candidate, candidates)),
            introducers=write_introducers(signal.rendezvous),
            relays=write_relays(signal.rendezvous),
        )
    )


def _decode_untrusted(payload: bytes) -> tuple[Signal, int]:
    try:
        wire = _DECODER.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"signal of {len(payload)} bytes: {error}") from None
    candidates = tuple(read_candidate_untrusted(item) for item in wire.candidates)
    signal = Signal(
        generation=wire.generation,
        ice=IceHalf(wire.ufrag, wire.password, candidates),
        rendezvous=read_rendezvous_untrusted(wire.introducers, wire.relays),
        wants_answer=wire.wants_answer,
    )
    return signal, wire.heard


def _tag(key: bytes, number: int) -> bytes:
    return keyed_digest(key, number.to_bytes(8, "big"), size=TAG_LENGTH)


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")
