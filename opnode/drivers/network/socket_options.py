"""What a UDP socket asks of the kernel: buffers, offload, ECN marks, no fragments.

Owns the numbers and shapes of socket options and control messages. Refuses to send or
receive anything. Every option is optional: a kernel without it is told by the answer.
"""

import contextlib
import socket
import struct
import sys
from typing import Final, NamedTuple

# Linux numbers; the socket module of Python 3.11 does not name them.
_SOL_UDP = 17
_UDP_SEGMENT = 103
_UDP_GRO = 104
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_IP_MTU_DISCOVER = 10
_IPV6_MTU_DISCOVER = 23
# Don't fragment, and send what the interface takes whatever the kernel has heard of
# the path: the mode that RFC 8899 §4.2 wants for probes.
_PMTUDISC_PROBE = 3

# Room for the control messages of one receive: GRO's size and the IP codepoint.
ANCILLARY_BYTES = 64
_ECN_MASK = 3
_ORDER = sys.byteorder
_SEGMENT_SIZE = struct.Struct("=H")
# None where the system has no such option. Other systems than Linux name the control
# message after the option that asks for it.
_IP_TOS: int | None = getattr(socket, "IP_TOS", None)
_IP_RECVTOS: int | None = getattr(socket, "IP_RECVTOS", None)
_IPV6_TCLASS: int | None = getattr(socket, "IPV6_TCLASS", None)
_IPV6_RECVTCLASS: int | None = getattr(socket, "IPV6_RECVTCLASS", None)
_ECN_KINDS: dict[int, tuple[int | None, ...]] = {
    socket.IPPROTO_IP: (_IP_TOS, _IP_RECVTOS),
    socket.IPPROTO_IPV6: (_IPV6_TCLASS,),
}

Ancillary = list[tuple[int, int, bytes]]


class Told(NamedTuple):
    """What the control messages of a receive say; 0 for what they do not."""

    segment_size: int
    ecn: int


def enlarge_buffers(raw: socket.socket, *, receive_bytes: int, send_bytes: int) -> None:
    """Ask for kernel buffers of this size and take what is granted."""
    for forced, plain, size in (
        (_SO_RCVBUFFORCE, socket.SO_RCVBUF, receive_bytes),
        (_SO_SNDBUFFORCE, socket.SO_SNDBUF, send_bytes),
    ):
        try:
            raw.setsockopt(socket.SOL_SOCKET, forced, size)
        except OSError:
            # Without CAP_NET_ADMIN the kernel grants up to net.core.{r,w}mem_max.
            raw.setsockopt(socket.SOL_SOCKET, plain, size)


def enable_coalescing(raw: socket.socket) -> bool:
    """Let one receive return several datagrams (GRO); whether the kernel can."""
    if not hasattr(raw, "recvmsg_into"):
        return False
    try:
        raw.setsockopt(_SOL_UDP, _UDP_GRO, 1)
    except OSError:
        return False
    return True


def has_segmentation(raw: socket.socket) -> bool:
    """Whether the kernel cuts one send into several datagrams (GSO)."""
    if not hasattr(raw, "sendmsg"):
        return False
    try:
        raw.getsockopt(_SOL_UDP, _UDP_SEGMENT)
    except OSError:
        return False
    return True


def segmentation(segment_size: int) -> Ancillary:
    """Control messages of a send that is to be cut into segments of this size."""
    return [(_SOL_UDP, _UDP_SEGMENT, _SEGMENT_SIZE.pack(segment_size))]


def enable_ecn_report(raw: socket.socket, *, is_v6: bool) -> bool:
    """Have every receive tell its IP codepoint; whether that is possible."""
    level, option = (
        (socket.IPPROTO_IPV6, _IPV6_RECVTCLASS)
        if is_v6
        else (socket.IPPROTO_IP, _IP_RECVTOS)
    )
    if option is None or not hasattr(raw, "recvmsg_into"):
        return False
    try:
        raw.setsockopt(level, option, 1)
    except OSError:
        return False
    return True


def set_ecn(raw: socket.socket, ecn: int, *, is_v6: bool) -> None:
    """Mark what is sent from now on with an IP codepoint, 0 to 3, where possible."""
    level, option = (
        (socket.IPPROTO_IPV6, _IPV6_TCLASS) if is_v6 else (socket.IPPROTO_IP, _IP_TOS)
    )
    if option is not None:
        # Without it the validation of the marks fails and the sender stops marking.
        with contextlib.suppress(OSError):
            raw.setsockopt(level, option, ecn)


def forbid_fragments(raw: socket.socket, *, is_v6: bool) -> None:
    """Set "don't fragment" and ignore what the kernel believes of a path.

    A datagram above the interface's MTU is then refused with EMSGSIZE, one above the
    path's is lost: what a search for the path's MTU needs to find it.
    """
    level, option = (
        (socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER)
        if is_v6
        else (socket.IPPROTO_IP, _IP_MTU_DISCOVER)
    )
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            raw.setsockopt(level, option, _PMTUDISC_PROBE)


# What nearly every datagram outside of a connection tells: 0.3 µs less for each.
_NOTHING: Final = Told(0, 0)


def parse_ancillary(ancillary: Ancillary) -> Told:
    """Read GRO's segment size and the IP codepoint from control messages."""
    segment_size = ecn = 0
    for level, kind, value in ancillary:
        if level == _SOL_UDP:
            if kind == _UDP_GRO:
                segment_size = int.from_bytes(value, _ORDER)
        elif kind in _ECN_KINDS.get(level, ()):
            # One byte for IPv4, an integer of the machine for IPv6.
            ecn = int.from_bytes(value, _ORDER) & _ECN_MASK
    return Told(segment_size, ecn) if segment_size or ecn else _NOTHING
