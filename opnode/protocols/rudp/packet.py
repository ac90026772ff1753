"""The outside of an RUDP packet: header, nonce and sizes; knows no frame.

A packet is a 17-byte header and a sealed text: one proof byte, frames, and the tag of
AES-256-GCM (docs/protocols/rudp.md §2). The nonce is the end of the header, and all of
the header that has a meaning is in it: nothing is left to authenticate besides.
"""

import functools
import struct
from typing import Final, NamedTuple

from opnode.core.addresses import Endpoint

PACKET_TYPE: Final = 0xE0
CONNECTION_ID_SIZE: Final = 8
# Type byte and connection id: what the socket routes by, the same in every packet of
# a path.
PREFIX_SIZE: Final = 1 + CONNECTION_ID_SIZE
HEADER_SIZE: Final = PREFIX_SIZE + 8
NONCE_SIZE: Final = 12
# Where the nonce begins: the low half of the connection id, flags and number.
NONCE_AT: Final = HEADER_SIZE - NONCE_SIZE
TAG_SIZE: Final = 16
PROOF_SIZE: Final = 1
# What a packet costs besides its frames.
OVERHEAD: Final = HEADER_SIZE + PROOF_SIZE + TAG_SIZE
# Fits every path that carries IPv6 (RFC 8200 §5) below its headers; equal sizes are
# what lets the kernel cut a burst.
BASE_PACKET_SIZE: Final = 1200
# The largest UDP payload that IPv4 carries; IPv6 would carry 20 bytes more.
MAX_PACKET_SIZE: Final = 65_507
MIN_PACKET_SIZE: Final = OVERHEAD + 1
MAX_BURST_BYTES: Final = 65_507
# Older kernels cut at most 64 segments.
MAX_BURST_SEGMENTS: Final = 64
# Packet numbers and the offset that hides them stay so small that their sum, the
# number on the wire, fits the 56 bits below the flags.
MAX_PACKET_NUMBER: Final = (1 << 54) - 1
MAX_NUMBER_OFFSET: Final = (1 << 54) - 1
# A packet is at most so far ahead of the newest one: a full congestion window of the
# shortest packets is half of it. Who does not know the offset misses the window.
MAX_AHEAD: Final = 1 << 20
WIRE_NUMBER_MASK: Final = (1 << 56) - 1
# Bit of the header's last field that names the key phase; the seven above it are 0.
KEY_PHASE_FLAG: Final = 1 << 56

pack_header = struct.Struct("!9sQ").pack
# The flags and the number on the wire, from byte PREFIX_SIZE of a packet on.
unpack_wire_number = struct.Struct("!Q").unpack_from


class Transmission(NamedTuple):
    """Packets for one destination: equal segments, of which the last may be short."""

    data: bytes
    destination: Endpoint
    segment_size: int
    # The ECN codepoint of all of them (RFC 3168 §5).
    ecn: int = 0


@functools.lru_cache(maxsize=64)
def burst_limit(packet_size: int) -> int:
    """Return how many packets of this size one send can carry."""
    return max(min(MAX_BURST_SEGMENTS, MAX_BURST_BYTES // packet_size), 1)
