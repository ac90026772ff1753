"""The wire format of RUDP packets and frames; owns the bytes, decides nothing.

Every integer is big endian. A packet is a 17-byte header, which is the associated
data of its AES-256-GCM seal, and a sealed list of frames (docs/protocols/rudp.md §2).
"""

import enum
import struct
from collections.abc import Callable
from typing import NamedTuple

from opnode.core.errors import RemoteProtocolError
from opnode.core.text import printable

PACKET_TYPE = 0xE0
CONNECTION_ID_SIZE = 8
# Type byte and connection id: what the socket routes by, the same in every packet.
PREFIX_SIZE = 1 + CONNECTION_ID_SIZE
HEADER_SIZE = PREFIX_SIZE + 8
TAG_SIZE = 16
# Fits every path that carries IPv6 (RFC 8200 §5) below its headers; equal sizes are
# what lets the kernel cut a burst.
PACKET_SIZE = 1200
MAX_PLAINTEXT = PACKET_SIZE - HEADER_SIZE - TAG_SIZE
MIN_PACKET_SIZE = HEADER_SIZE + TAG_SIZE + 1
DATA_HEADER_SIZE = 15
# Stream bytes in a full packet that holds one data frame and nothing else.
CHUNK_SIZE = MAX_PLAINTEXT - DATA_HEADER_SIZE
DATAGRAM_HEADER_SIZE = 3
MAX_DATAGRAM_SIZE = MAX_PLAINTEXT - DATAGRAM_HEADER_SIZE
# Most segments in one burst: a UDP send takes at most 65,507 bytes, and Linux cuts at
# most 64 (older kernels) of them.
MAX_BURST_SEGMENTS = 54
MAX_REASON_SIZE = 256
MAX_ACK_RANGES = 64
# Low 56 bits of the header's last field; the high byte holds the flags.
MAX_PACKET_NUMBER = (1 << 56) - 1
# Bit of the header that names the key phase. Reserved: always 0 in this version.
KEY_PHASE_FLAG = 1 << 56
# AES-GCM keeps its margin for 2^28 packets below 2 KiB under one key (RFC 9001 §B.1).
MAX_PACKETS_PER_KEY = 1 << 28
MAX_OFFSET = (1 << 62) - 1

# What both ends may send before the first credit frame of the other arrives.
INITIAL_CHANNEL_CREDIT = 256 * 1024
INITIAL_CONNECTION_CREDIT = 1024 * 1024
INITIAL_CHANNEL_COUNT = 128
# The longest that an acknowledgement may be held back; both ends count on it.
MAX_ACK_DELAY_S = 0.005

pack_header = struct.Struct("!9sQ").pack
unpack_header = struct.Struct("!9sQ").unpack_from
pack_nonce = struct.Struct("!IQ").pack
pack_data_header = struct.Struct("!BIQH").pack
unpack_data_header = struct.Struct("!BIQH").unpack_from

_ACK = struct.Struct("!BIQBI")
_ACK_RANGE = struct.Struct("!II")
_PING = struct.Struct("!BI")
_CHANNEL_CREDIT = struct.Struct("!BIQ")
_CONNECTION_CREDIT = struct.Struct("!BQ")
_CHANNEL_COUNT = struct.Struct("!BI")
_RESET = struct.Struct("!BIIQ")
_STOP = struct.Struct("!BII")
_DATAGRAM = struct.Struct("!BH")
_CLOSE = struct.Struct("!BIH")
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


# Plain integers for the hot paths: reading an enum member costs a descriptor call.
DATA_TYPE = int(FrameType.DATA)
DATA_FIN_TYPE = int(FrameType.DATA_FIN)
# A packet that holds a PING and nothing else.
PROBE_SIZE = HEADER_SIZE + _PING.size + TAG_SIZE
# The longest control frame (RESET); a packet with less room takes no further one.
MAX_CONTROL_SIZE = _RESET.size


class CloseCode(enum.IntEnum):
    """Codes of CLOSE that the protocol itself uses; 1 to 2^31 - 1 are the caller's."""

    NO_ERROR = 0
    IDLE_TIMEOUT = 0x8000_0000
    FRAME_ENCODING = 0x8000_0001
    PROTOCOL_VIOLATION = 0x8000_0002
    FLOW_CONTROL = 0x8000_0003
    CHANNEL_LIMIT = 0x8000_0004
    FINAL_SIZE = 0x8000_0005
    KEY_EXHAUSTED = 0x8000_0006


class PeerViolationError(RemoteProtocolError):
    """An authenticated packet broke a rule: the connection ends with this code.

    It never leaves the package; the application sees a ``Closed`` event.
    """

    def __init__(self, code: CloseCode, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class PingFrame(NamedTuple):
    """Asks for an acknowledgement at once."""

    ping_id: int


class AckFrame(NamedTuple):
    """Half-open ranges of packet numbers received, highest first."""

    delay_s: float
    ranges: tuple[tuple[int, int], ...]


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
)


def encode_ack(delay_s: float, ranges: list[tuple[int, int]]) -> bytes:
    """Encode an ACK frame.

    Args:
        delay_s: How long the highest packet has been here; capped at 4295 s.
        ranges: Half-open ranges, highest first, 1 to 64, apart from each other.
    """
    start, stop = ranges[0]
    delay_us = min(max(round(delay_s * _MICROSECONDS), 0), _U32_MAX)
    length = min(stop - start, _U32_MAX)
    parts = [_ACK.pack(FrameType.ACK, delay_us, stop - 1, 1, length)]
    previous = start
    for start, stop in ranges[1:MAX_ACK_RANGES]:
        gap = previous - stop
        if gap > _U32_MAX or stop - start > _U32_MAX:
            break
        parts.append(_ACK_RANGE.pack(gap, stop - start))
        previous = start
    if len(parts) > 1:
        parts[0] = _ACK.pack(
            FrameType.ACK, delay_us, ranges[0][1] - 1, len(parts), length
        )
    return b"".join(parts)


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


def parse_frames(plaintext: bytes) -> list[Frame]:
    """Split an authenticated packet into its frames, padding left out.

    Raises:
        PeerViolationError: FRAME_ENCODING; unknown type, cut frame, or a value
            outside its bounds.
    """
    frames: list[Frame] = []
    position = 0
    size = len(plaintext)
    try:
        while position < size:
            kind = plaintext[position]
            if kind == FrameType.PADDING:
                position += 1
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


def _bad(detail: str) -> PeerViolationError:
    return PeerViolationError(CloseCode.FRAME_ENCODING, detail)


def _parse_ping(plaintext: bytes, position: int) -> tuple[Frame, int]:
    _, ping_id = _PING.unpack_from(plaintext, position)
    return PingFrame(ping_id), position + _PING.size


def _parse_ack(plaintext: bytes, position: int) -> tuple[Frame, int]:
    _, delay_us, largest, count, length = _ACK.unpack_from(plaintext, position)
    position += _ACK.size
    if not 1 <= count <= MAX_ACK_RANGES or largest > MAX_PACKET_NUMBER:
        raise _bad(f"an ACK has {count} ranges up to packet {largest}")
    stop = largest + 1
    ranges = [(stop - length, stop)]
    for _ in range(count - 1):
        gap, following = _ACK_RANGE.unpack_from(plaintext, position)
        position += _ACK_RANGE.size
        stop = ranges[-1][0] - gap
        ranges.append((stop - following, stop))
        if gap == 0 or following == 0:
            raise _bad("two ranges of an ACK touch, or one is empty")
    if length == 0 or ranges[-1][0] < 0:
        raise _bad("a range of an ACK is empty or below packet 0")
    return AckFrame(delay_us / _MICROSECONDS, tuple(ranges)), position


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
    return DatagramFrame(plaintext[start : start + length]), start + length


def _parse_close(plaintext: bytes, position: int) -> tuple[Frame, int]:
    _, code, length = _CLOSE.unpack_from(plaintext, position)
    start = position + _CLOSE.size
    if length > MAX_REASON_SIZE:
        raise _bad(f"a CLOSE has a reason of {length} bytes, at most 256 are allowed")
    reason = plaintext[start : start + length].decode("utf-8", "replace")
    # People read it on a terminal, and a peer wrote it.
    return CloseFrame(code, printable(reason)), start + length


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
}
