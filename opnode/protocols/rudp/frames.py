"""The frames inside a packet; owns their bytes, decides nothing.

Every integer is unsigned and big endian (docs/protocols/rudp.md §3).
"""

import enum
import re
import struct
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from opnode.core.text import printable
from opnode.protocols.rudp.packet import (
    BASE_PACKET_SIZE,
    MAX_PACKET_NUMBER,
    OVERHEAD,
    PROOF_SIZE,
)
from opnode.protocols.rudp.violation import CloseCode, PeerViolationError

DATA_HEADER_SIZE: Final = 15
# What stands before the bytes of a channel in a packet with a single DATA frame.
BULK_HEADER_SIZE: Final = PROOF_SIZE + DATA_HEADER_SIZE
# What such a packet costs besides those bytes.
BULK_OVERHEAD: Final = OVERHEAD + DATA_HEADER_SIZE
# Bytes of a channel in such a packet of the base size.
BASE_CHUNK_SIZE: Final = BASE_PACKET_SIZE - BULK_OVERHEAD
DATAGRAM_HEADER_SIZE: Final = 3
# Fits a packet of the base size, so every path carries it.
MAX_DATAGRAM_SIZE: Final = BASE_PACKET_SIZE - OVERHEAD - DATAGRAM_HEADER_SIZE
MAX_REASON_SIZE: Final = 256
MAX_ACK_RANGES: Final = 64
MAX_KEY_SHARE_PART: Final = 640
MAX_OFFSET: Final = (1 << 62) - 1

# What both ends may send before the first credit frame of the other arrives.
INITIAL_CHANNEL_CREDIT: Final = 256 * 1024
INITIAL_CONNECTION_CREDIT: Final = 1024 * 1024
INITIAL_CHANNEL_COUNT: Final = 128
# The longest that an acknowledgement may be held back; both ends count on it.
MAX_ACK_DELAY_S: Final = 0.005

pack_data_header = struct.Struct("!BIQH").pack
unpack_data_header = struct.Struct("!BIQH").unpack_from
# Proof byte and DATA header at once, as a packet of bulk data begins.
pack_bulk_header_into = struct.Struct("!BBIQH").pack_into

_ACK = struct.Struct("!BIQBQB")
_ACK_RANGE = struct.Struct("!IIB")
_ECN_COUNTS = struct.Struct("!QQQ")
_PING = struct.Struct("!BI")
_CHANNEL_CREDIT = struct.Struct("!BIQ")
_CONNECTION_CREDIT = struct.Struct("!BQ")
_CHANNEL_COUNT = struct.Struct("!BI")
_RESET = struct.Struct("!BIIQ")
_STOP = struct.Struct("!BII")
_DATAGRAM = struct.Struct("!BH")
_CLOSE = struct.Struct("!BIH")
_PATH_TOKEN = struct.Struct("!B8s")
_KEY_SHARE = struct.Struct("!BBH")
_ACK_FREQUENCY = struct.Struct("!BIHI")
_NOT_PADDING = re.compile(rb"[^\0]")
_U32_MAX = (1 << 32) - 1
_MICROSECONDS = 1_000_000


class FrameType(enum.IntEnum):
    """First byte of a frame."""

    PADDING = 0x00
    PING = 0x01
    ACK = 0x02
    DATA = 0x03
    DATA_FIN = 0x04
    CHANNEL_CREDIT = 0x05
    CONNECTION_CREDIT = 0x06
    CHANNEL_COUNT = 0x07
    RESET = 0x08
    STOP_READING = 0x09
    DATAGRAM = 0x0A
    CLOSE = 0x0B
    PATH_CHALLENGE = 0x0C
    PATH_RESPONSE = 0x0D
    KEY_SHARE = 0x0E
    ACK_FREQUENCY = 0x0F
    ACK_ECN = 0x10


# Plain integers for the hot paths: reading an enum member costs a descriptor call.
DATA_TYPE = int(FrameType.DATA)
DATA_FIN_TYPE = int(FrameType.DATA_FIN)
_ACK_TYPE = int(FrameType.ACK)
_ONE_BYTE = tuple(bytes((value,)) for value in range(256))
_ACK_ECN_TYPE = int(FrameType.ACK_ECN)
# The longest control frame but KEY_SHARE is a RESET.
_CONTROL_SIZE = _RESET.size


def control_size(kind: int) -> int:
    """Return the most bytes that a control frame of this type takes."""
    if kind == FrameType.KEY_SHARE:
        return _KEY_SHARE.size + MAX_KEY_SHARE_PART
    return _CONTROL_SIZE


class PingFrame(NamedTuple):
    """Asks for an acknowledgement at once."""

    ping_id: int


class EcnCounts(NamedTuple):
    """Packets that arrived with each ECN codepoint since the start (RFC 3168 §5)."""

    ect0: int
    ect1: int
    ce: int


class AckFrame(NamedTuple):
    """Half-open ranges of packet numbers received, highest first.

    ``proofs`` holds one byte for each range; ``ecn`` what ACK_ECN tells besides.
    """

    delay_s: float
    ranges: tuple[tuple[int, int], ...]
    proofs: bytes
    ecn: EcnCounts | None = None


class DataFrame(NamedTuple):
    """Bytes of a channel; ``fin`` says that they are its last."""

    channel_id: int
    offset: int
    data: bytes
    fin: bool


class ChannelCreditFrame(NamedTuple):
    """The offset up to which the peer may send on a channel."""

    channel_id: int
    limit: int


class ConnectionCreditFrame(NamedTuple):
    """How many bytes the peer may send on all channels together."""

    limit: int


class ChannelCountFrame(NamedTuple):
    """How many channels the peer may open during the whole connection."""

    limit: int


class ResetFrame(NamedTuple):
    """The sender gives up its half of a channel."""

    channel_id: int
    code: int
    final_size: int


class StopReadingFrame(NamedTuple):
    """The receiver wants no more of a channel."""

    channel_id: int
    code: int


class DatagramFrame(NamedTuple):
    """An unreliable message."""

    data: bytes


class CloseFrame(NamedTuple):
    """The connection is over."""

    code: int
    reason: str


class PathChallengeFrame(NamedTuple):
    """Asks for its token back along the path on which it came."""

    token: bytes


class PathResponseFrame(NamedTuple):
    """The token of a PATH_CHALLENGE."""

    token: bytes


class KeyShareFrame(NamedTuple):
    """A part of one message of the post-quantum exchange."""

    part: int
    data: bytes


class AckFrequencyFrame(NamedTuple):
    """How often the sender of this frame wants to be acknowledged."""

    sequence: int
    packets: int
    max_delay_s: float


Frame = (
    PingFrame
    | AckFrame
    | DataFrame
    | ChannelCreditFrame
    | ConnectionCreditFrame
    | ChannelCountFrame
    | ResetFrame
    | StopReadingFrame
    | DatagramFrame
    | CloseFrame
    | PathChallengeFrame
    | PathResponseFrame
    | KeyShareFrame
    | AckFrequencyFrame
)


def encode_ack(
    delay_s: float,
    ranges: Sequence[tuple[int, int, int]],
    ecn: EcnCounts | None = None,
) -> bytes:
    """Encode an ACK frame, or ACK_ECN when there are counts to tell.

    Args:
        delay_s: How long the highest packet has been here; capped at 4295 s.
        ranges: Half-open ranges with their proof byte, highest first, 1 to 64, apart
            from each other.
        ecn: Packets received by codepoint.
    """
    start, stop, proof = ranges[0]
    delay_us = min(max(round(delay_s * _MICROSECONDS), 0), _U32_MAX)
    first = stop - start
    if len(ranges) == 1 and ecn is None:
        return _ACK.pack(_ACK_TYPE, delay_us, stop - 1, 1, first, proof)
    parts: list[bytes] = []
    previous = start
    for start, following, mark in ranges[1:MAX_ACK_RANGES]:
        gap = previous - following
        if gap > _U32_MAX or following - start > _U32_MAX:
            break
        parts.append(_ACK_RANGE.pack(gap, following - start, mark))
        previous = start
    kind = _ACK_TYPE if ecn is None else _ACK_ECN_TYPE
    head = _ACK.pack(kind, delay_us, stop - 1, len(parts) + 1, first, proof)
    if ecn is not None:
        parts.append(_ECN_COUNTS.pack(*ecn))
    return b"".join((head, *parts)) if parts else head


def encode_ping(ping_id: int) -> bytes:
    """Encode a PING frame."""
    return _PING.pack(FrameType.PING, ping_id)


def encode_data(channel_id: int, offset: int, data: bytes, *, fin: bool) -> bytes:
    """Encode a DATA or DATA_FIN frame of at most 65,535 bytes."""
    kind = DATA_FIN_TYPE if fin else DATA_TYPE
    return pack_data_header(kind, channel_id, offset, len(data)) + data


def encode_channel_credit(channel_id: int, limit: int) -> bytes:
    """Encode a CHANNEL_CREDIT frame."""
    return _CHANNEL_CREDIT.pack(FrameType.CHANNEL_CREDIT, channel_id, limit)


def encode_connection_credit(limit: int) -> bytes:
    """Encode a CONNECTION_CREDIT frame."""
    return _CONNECTION_CREDIT.pack(FrameType.CONNECTION_CREDIT, limit)


def encode_channel_count(count: int) -> bytes:
    """Encode a CHANNEL_COUNT frame."""
    return _CHANNEL_COUNT.pack(FrameType.CHANNEL_COUNT, count)


def encode_reset(channel_id: int, code: int, final_size: int) -> bytes:
    """Encode a RESET frame."""
    return _RESET.pack(FrameType.RESET, channel_id, code, final_size)


def encode_stop_reading(channel_id: int, code: int) -> bytes:
    """Encode a STOP_READING frame."""
    return _STOP.pack(FrameType.STOP_READING, channel_id, code)


def encode_datagram(data: bytes) -> bytes:
    """Encode a DATAGRAM frame of at most ``MAX_DATAGRAM_SIZE`` bytes."""
    return _DATAGRAM.pack(FrameType.DATAGRAM, len(data)) + data


def encode_close(code: int, reason: str) -> bytes:
    """Encode a CLOSE frame; the reason is cut to 256 bytes of UTF-8."""
    text = reason.encode("utf-8", "replace")[:MAX_REASON_SIZE]
    text = text.decode("utf-8", "ignore").encode("utf-8")
    return _CLOSE.pack(FrameType.CLOSE, code, len(text)) + text


def encode_path_challenge(token: bytes) -> bytes:
    """Encode a PATH_CHALLENGE frame with its 8-byte token."""
    return _PATH_TOKEN.pack(FrameType.PATH_CHALLENGE, token)


def encode_path_response(token: bytes) -> bytes:
    """Encode the PATH_RESPONSE frame that answers the challenge with this token."""
    return _PATH_TOKEN.pack(FrameType.PATH_RESPONSE, token)


def encode_key_share(part: int, data: bytes) -> bytes:
    """Encode a KEY_SHARE frame of at most 640 bytes."""
    return _KEY_SHARE.pack(FrameType.KEY_SHARE, part, len(data)) + data


def encode_ack_frequency(sequence: int, packets: int, max_delay_s: float) -> bytes:
    """Encode an ACK_FREQUENCY frame."""
    delay_us = min(max(round(max_delay_s * _MICROSECONDS), 0), _U32_MAX)
    return _ACK_FREQUENCY.pack(FrameType.ACK_FREQUENCY, sequence, packets, delay_us)


def parse_frames(plaintext: bytes, position: int = 0) -> list[Frame]:
    """Split an opened packet into its frames, padding left out.

    Args:
        plaintext: Frames, perhaps behind something else.
        position: Where the frames begin.

    Raises:
        PeerViolationError: FRAME_ENCODING; unknown type, cut frame, or a value
            outside its bounds.
    """
    frames: list[Frame] = []
    size = len(plaintext)
    try:
        while position < size:
            kind = plaintext[position]
            if not kind:
                position = _past_padding(plaintext, position)
                continue
            frame, position = _PARSERS[kind](plaintext, position)
            if position > size:
                raise _bad(f"a frame of type {kind} ends {position - size} bytes late")
            frames.append(frame)
    except KeyError as error:
        raise _bad(f"unknown frame type {error.args[0]} at byte {position}") from None
    except struct.error:
        raise _bad(f"a frame is cut off at byte {size}") from None
    return frames


def _past_padding(plaintext: bytes, position: int) -> int:
    """Return where padding ends; at once, as a packet may hold nothing else."""
    found = _NOT_PADDING.search(plaintext, position)
    return found.start() if found else len(plaintext)


def _bad(detail: str) -> PeerViolationError:
    return PeerViolationError(CloseCode.FRAME_ENCODING, detail)


def _parse_ping(plaintext: bytes, position: int) -> tuple[Frame, int]:
    _, ping_id = _PING.unpack_from(plaintext, position)
    return PingFrame(ping_id), position + _PING.size


def _parse_ack(plaintext: bytes, position: int) -> tuple[Frame, int]:
    kind, delay_us, largest, count, length, proof = _ACK.unpack_from(
        plaintext, position
    )
    position += _ACK.size
    if not 1 <= count <= MAX_ACK_RANGES or largest > MAX_PACKET_NUMBER:
        raise _bad(f"an ACK has {count} ranges up to packet {largest}")
    stop = largest + 1
    if count == 1 and kind == _ACK_TYPE and 0 < length <= stop:
        # Nothing is missing, as most of the time: 1 µs less.
        lone = AckFrame(
            delay_us / _MICROSECONDS, ((stop - length, stop),), _ONE_BYTE[proof]
        )
        return lone, position
    ranges = [(stop - length, stop)]
    proofs = [proof]
    for _ in range(count - 1):
        gap, following, mark = _ACK_RANGE.unpack_from(plaintext, position)
        position += _ACK_RANGE.size
        stop = ranges[-1][0] - gap
        ranges.append((stop - following, stop))
        proofs.append(mark)
        if gap == 0 or following == 0:
            raise _bad("two ranges of an ACK touch, or one is empty")
    if length == 0 or ranges[-1][0] < 0:
        raise _bad("a range of an ACK is empty or below packet 0")
    ecn = None
    if kind == FrameType.ACK_ECN:
        ecn = EcnCounts(*_ECN_COUNTS.unpack_from(plaintext, position))
        position += _ECN_COUNTS.size
    frame = AckFrame(delay_us / _MICROSECONDS, tuple(ranges), bytes(proofs), ecn)
    return frame, position


def _parse_data(plaintext: bytes, position: int) -> tuple[Frame, int]:
    kind, channel_id, offset, length = unpack_data_header(plaintext, position)
    start = position + DATA_HEADER_SIZE
    if offset + length > MAX_OFFSET:
        raise _bad(f"data of channel {channel_id} ends above {MAX_OFFSET}")
    data = plaintext[start : start + length]
    return DataFrame(channel_id, offset, data, kind == DATA_FIN_TYPE), start + length


def _parse_channel_credit(plaintext: bytes, position: int) -> tuple[Frame, int]:
    _, channel_id, limit = _CHANNEL_CREDIT.unpack_from(plaintext, position)
    return ChannelCreditFrame(channel_id, limit), position + _CHANNEL_CREDIT.size


def _parse_connection_credit(plaintext: bytes, position: int) -> tuple[Frame, int]:
    _, limit = _CONNECTION_CREDIT.unpack_from(plaintext, position)
    return ConnectionCreditFrame(limit), position + _CONNECTION_CREDIT.size


def _parse_channel_count(plaintext: bytes, position: int) -> tuple[Frame, int]:
    _, count = _CHANNEL_COUNT.unpack_from(plaintext, position)
    return ChannelCountFrame(count), position + _CHANNEL_COUNT.size


def _parse_reset(plaintext: bytes, position: int) -> tuple[Frame, int]:
    _, channel_id, code, final_size = _RESET.unpack_from(plaintext, position)
    if final_size > MAX_OFFSET:
        raise _bad(f"a RESET of channel {channel_id} has a final size above 2^62")
    return ResetFrame(channel_id, code, final_size), position + _RESET.size


def _parse_stop_reading(plaintext: bytes, position: int) -> tuple[Frame, int]:
    _, channel_id, code = _STOP.unpack_from(plaintext, position)
    return StopReadingFrame(channel_id, code), position + _STOP.size


def _parse_datagram(plaintext: bytes, position: int) -> tuple[Frame, int]:
    _, length = _DATAGRAM.unpack_from(plaintext, position)
    start = position + _DATAGRAM.size
    if length > MAX_DATAGRAM_SIZE:
        raise _bad(
            f"a DATAGRAM has {length} bytes, at most {MAX_DATAGRAM_SIZE} are allowed"
        )
    return DatagramFrame(plaintext[start : start + length]), start + length


def _parse_close(plaintext: bytes, position: int) -> tuple[Frame, int]:
    _, code, length = _CLOSE.unpack_from(plaintext, position)
    start = position + _CLOSE.size
    if length > MAX_REASON_SIZE:
        raise _bad(f"a CLOSE has a reason of {length} bytes, at most 256 are allowed")
    reason = plaintext[start : start + length].decode("utf-8", "replace")
    # People read it on a terminal, and a peer wrote it.
    return CloseFrame(code, printable(reason)), start + length


def _parse_path_token(plaintext: bytes, position: int) -> tuple[Frame, int]:
    kind, token = _PATH_TOKEN.unpack_from(plaintext, position)
    position += _PATH_TOKEN.size
    if kind == FrameType.PATH_CHALLENGE:
        return PathChallengeFrame(token), position
    return PathResponseFrame(token), position


def _parse_key_share(plaintext: bytes, position: int) -> tuple[Frame, int]:
    _, part, length = _KEY_SHARE.unpack_from(plaintext, position)
    start = position + _KEY_SHARE.size
    if not 1 <= length <= MAX_KEY_SHARE_PART:
        raise _bad(f"a KEY_SHARE has {length} bytes, 1 to {MAX_KEY_SHARE_PART} fit")
    return KeyShareFrame(part, plaintext[start : start + length]), start + length


def _parse_ack_frequency(plaintext: bytes, position: int) -> tuple[Frame, int]:
    _, sequence, packets, delay_us = _ACK_FREQUENCY.unpack_from(plaintext, position)
    if packets == 0:
        raise _bad("an ACK_FREQUENCY asks for acknowledgements of no packets")
    frame = AckFrequencyFrame(sequence, packets, delay_us / _MICROSECONDS)
    return frame, position + _ACK_FREQUENCY.size


_PARSERS: dict[int, Callable[[bytes, int], tuple[Frame, int]]] = {
    FrameType.PING: _parse_ping,
    FrameType.ACK: _parse_ack,
    FrameType.DATA: _parse_data,
    FrameType.DATA_FIN: _parse_data,
    FrameType.CHANNEL_CREDIT: _parse_channel_credit,
    FrameType.CONNECTION_CREDIT: _parse_connection_credit,
    FrameType.CHANNEL_COUNT: _parse_channel_count,
    FrameType.RESET: _parse_reset,
    FrameType.STOP_READING: _parse_stop_reading,
    FrameType.DATAGRAM: _parse_datagram,
    FrameType.CLOSE: _parse_close,
    FrameType.PATH_CHALLENGE: _parse_path_token,
    FrameType.PATH_RESPONSE: _parse_path_token,
    FrameType.KEY_SHARE: _parse_key_share,
    FrameType.ACK_FREQUENCY: _parse_ack_frequency,
    FrameType.ACK_ECN: _parse_ack,
}
