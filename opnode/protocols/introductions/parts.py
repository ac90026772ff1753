"""Sealed offers and answers in datagrams: one mostly, two when early data is long.

Owns how a message is cut and put together again. Sans-I/O, and without time: who holds
`OfferParts` says when to forget. Refuses to know what a message says and who brings it.

The numbered rules (I-…) are those of ``docs/protocols/introductions.md``.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from opnode.core.crypto import sha256
from opnode.core.errors import LocalProtocolError, RemoteProtocolError

MAX_PART: Final = 1100
"""Bytes of a part: with the RPC header around it, one datagram that every path carries
(1200 bytes, RFC 9000 section 14)."""
MAX_PARTS: Final = 2
TAG_LENGTH: Final = 8

_WHOLE_HEAD: Final = 2
_PART_HEAD: Final = _WHOLE_HEAD + TAG_LENGTH
MAX_WHOLE: Final = MAX_PART - _WHOLE_HEAD
"""Bytes of the longest sealed message that needs one datagram only."""
MAX_SEALED: Final = MAX_PARTS * (MAX_PART - _PART_HEAD)
"""Bytes of the longest sealed message."""

_COUNT_BITS: Final = 4
_COUNT_MASK: Final = 0x0F
# Copies of a part that differ: all but one were changed on their way, so whoever could
# do that could as well have dropped it.
_MAX_VERSIONS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One datagram's share of a message.

    Attributes:
        index, count: Which of how many.
        wanted: In offers: which part of the answer to send back.
        tag: First bytes of the message's SHA-256; empty when this is all of it.
        chunk: Its bytes.
    """

    index: int
    count: int
    wanted: int
    tag: bytes
    chunk: bytes


def split(sealed: bytes) -> tuple[bytes, ...]:
    """Cut a message into one or two parts; each asks for the same part of the answer.

    Raises:
        LocalProtocolError: It is too long.
    """
    if len(sealed) <= MAX_WHOLE:
        return (bytes((1, 0)) + sealed,)
    if len(sealed) > MAX_SEALED:
        raise LocalProtocolError(
            f"sealed message: found {len(sealed)} bytes, expected at most {MAX_SEALED}"
        )
    tag, middle = _tag(sealed), (len(sealed) + 1) // 2
    chunks = (sealed[:middle], sealed[middle:])
    return tuple(
        bytes((index << _COUNT_BITS | MAX_PARTS, index)) + tag + chunk
        for index, chunk in enumerate(chunks)
    )


def asking_for(offer: bytes, wanted: int) -> bytes:
    """The part of an offer once more, asking for another part of the answer."""
    return offer[:1] + bytes((wanted,)) + offer[_WHOLE_HEAD:]


def parse_untrusted(data: bytes) -> Part:
    """Read a part.

    Raises:
        RemoteProtocolError: It has another shape.
    """
    if len(data) <= _WHOLE_HEAD or len(data) > MAX_PART:
        raise RemoteProtocolError(f"a part of {len(data)} bytes")
    index, count = data[0] >> _COUNT_BITS, data[0] & _COUNT_MASK
    head = _WHOLE_HEAD if count == 1 else _PART_HEAD
    is_sound = 1 <= count <= MAX_PARTS and index < count and data[1] < MAX_PARTS
    if not is_sound or len(data) <= head:
        raise RemoteProtocolError(f"a part with the head {data[:2].hex()}")
    return Part(
        index=index,
        count=count,
        wanted=data[1],
        tag=data[_WHOLE_HEAD:head],
        chunk=data[head:],
    )


def join_untrusted(parts: tuple[Part, ...]) -> bytes:
    """Put an answer together.

    Raises:
        RemoteProtocolError: They are not the parts of one message.
    """
    ordered = sorted(parts, key=lambda part: part.index)
    whole = b"".join(part.chunk for part in ordered)
    first = ordered[0]
    if [part.index for part in ordered] != list(range(first.count)):
        raise RemoteProtocolError("parts of an answer are missing")
    if first.count > 1 and any(part.tag != _tag(whole) for part in ordered):
        raise RemoteProtocolError("the parts are of different answers")
    return whole


class OfferParts:
    """Offers of which the other part is still to come.

    Each is kept until it is whole or ``forget`` is called; beyond the limit the oldest
    one goes (I-13).
    """

    def __init__(self, max_offers: int = 64) -> None:
        """Start empty; at 2.2 kB and three versions each, 64 take half a megabyte."""
        self._max_offers = max_offers
        self._chunks: OrderedDict[bytes, tuple[list[bytes], list[bytes]]] = (
            OrderedDict()
        )

    def __len__(self) -> int:
        """Offers that are not whole."""
        return len(self._chunks)

    def add(self, part: Part) -> bytes | None:
        """Take one of two parts; the whole offer if it completes one."""
        both = self._chunks.setdefault(part.tag, ([], []))
        if len(self._chunks) > self._max_offers:
            self._chunks.popitem(last=False)
        versions = both[part.index]
        if part.chunk not in versions and len(versions) < _MAX_VERSIONS:
            versions.append(part.chunk)
        for first in both[0]:
            for second in both[1]:
                if _tag(first + second) == part.tag:
                    return first + second
        return None

    def forget(self, tag: bytes) -> None:
        """Drop what came of an offer; nothing happens when it is unknown."""
        self._chunks.pop(tag, None)


def _tag(whole: bytes) -> bytes:
    return sha256(whole)[:TAG_LENGTH]
