"""RUDP frames in qlog's words; keeps lengths and numbers, never bytes.

The names are those of draft-ietf-quic-qlog-quic-events, which viewers know. A channel
becomes the bidirectional QUIC stream that its opener would have used (RFC 9000 §2.1).
"""

from collections.abc import Mapping

from opnode.protocols.rudp.frames import (
    AckFrame,
    AckFrequencyFrame,
    ChannelCountFrame,
    ChannelCreditFrame,
    CloseFrame,
    ConnectionCreditFrame,
    DataFrame,
    DatagramFrame,
    Frame,
    KeyShareFrame,
    PathChallengeFrame,
    PathResponseFrame,
    PingFrame,
    ResetFrame,
    StopReadingFrame,
    parse_frames,
)
from opnode.protocols.rudp.violation import PeerViolationError

Described = Mapping[str, object]


def stream_id(channel_id: int) -> int:
    """Return the QUIC stream for a channel: 0, 4, … the initiator's, 1, 5, … ours."""
    return (channel_id >> 1) * 4 + (channel_id & 1)


def describe_stream(channel_id: int, offset: int, length: int) -> Described:
    """Describe a DATA frame without its bytes."""
    return {
        "frame_type": "stream",
        "stream_id": stream_id(channel_id),
        "offset": offset,
        "length": length,
    }


def describe_frames(encoded: bytes) -> list[Described]:
    """Describe the frames of a packet, those of a peer that breaks rules included."""
    try:
        return [_describe(frame) for frame in parse_frames(encoded)]
    except PeerViolationError:
        return [{"frame_type": "unknown_frame_type", "length": len(encoded)}]


def _describe(frame: Frame) -> Described:
    match frame:
        case DataFrame(channel_id, offset, data, fin):
            described = describe_stream(channel_id, offset, len(data))
            return {**described, "fin": True} if fin else described
        case AckFrame():
            return _describe_ack(frame)
        case PingFrame():
            return {"frame_type": "ping"}
        case DatagramFrame(data):
            return {"frame_type": "datagram", "length": len(data)}
        case CloseFrame(code):
            return {
                "frame_type": "connection_close",
                "error_space": "application",
                "error_code": code,
            }
        case _:
            return _describe_control(frame)


def _describe_control(frame: Frame) -> Described:
    match frame:
        case ChannelCreditFrame(channel_id, limit):
            return {
                "frame_type": "max_stream_data",
                "stream_id": stream_id(channel_id),
                "maximum": limit,
            }
        case ConnectionCreditFrame(limit):
            return {"frame_type": "max_data", "maximum": limit}
        case ChannelCountFrame(limit):
            return {
                "frame_type": "max_streams",
                "stream_type": "bidirectional",
                "maximum": limit,
            }
        case ResetFrame(channel_id, code, final_size):
            return {
                "frame_type": "reset_stream",
                "stream_id": stream_id(channel_id),
                "error_code": code,
                "final_size": final_size,
            }
        case StopReadingFrame(channel_id, code):
            return {
                "frame_type": "stop_sending",
                "stream_id": stream_id(channel_id),
                "error_code": code,
            }
        case _:
            return _describe_rare(frame)


def _describe_rare(frame: Frame) -> Described:
    match frame:
        case PathChallengeFrame():
            return {"frame_type": "path_challenge"}
        case PathResponseFrame():
            return {"frame_type": "path_response"}
        case KeyShareFrame(part, data):
            return {"frame_type": "crypto", "part": part, "length": len(data)}
        case AckFrequencyFrame(sequence, packets, max_delay_s):
            return {
                "frame_type": "ack_frequency",
                "sequence_number": sequence,
                "ack_eliciting_threshold": packets,
                "request_max_ack_delay": max_delay_s * 1e3,
            }
        case _:
            return {"frame_type": "unknown_frame_type"}


def _describe_ack(frame: AckFrame) -> Described:
    """Ranges lowest first and both ends included, as the drafts have them."""
    described: dict[str, object] = {
        "frame_type": "ack",
        "ack_delay": round(frame.delay_s * 1e3, 3),
        "acked_ranges": [[start, stop - 1] for start, stop in reversed(frame.ranges)],
    }
    if frame.ecn is not None:
        described |= frame.ecn._asdict()
    return described
