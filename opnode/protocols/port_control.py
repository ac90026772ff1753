"""Asking a home gateway to forward a port: PCP (RFC 6887) and NAT-PMP (RFC 6886).

Owns the bytes of both, which share a port and tell each other apart by the first byte.
Refuses to know where the gateway is, when to ask again, and that UPnP exists.
"""

import enum
import ipaddress
import struct
from dataclasses import dataclass
from typing import Final

from opnode.core.addresses import Endpoint
from opnode.core.errors import RemoteProtocolError

SERVER_PORT: Final = 5351
"""Where gateways listen, for both (RFC 6887 §19.1)."""

NONCE_LENGTH: Final = 12
PMP_ADDRESS_REQUEST: Final = b"\x00\x00"
"""NAT-PMP's question for the external address (RFC 6886 §3.2)."""

_PMP_VERSION, _PCP_VERSION = 0, 2
_RESPONSE: Final = 0x80
_OP_ADDRESS, _OP_MAP = 0, 1
_UDP: Final = 17
_PMP_MAP_REQUEST: Final = struct.Struct("!BBHHHI")
_PMP_HEAD: Final = struct.Struct("!BBHI")
_PMP_ADDRESS: Final = struct.Struct("!4s")
_PMP_MAPPED: Final = struct.Struct("!HHI")
_PCP_REQUEST: Final = struct.Struct("!BBHI16s")
_PCP_RESPONSE: Final = struct.Struct("!BBBBII12x")
_PCP_MAP: Final = struct.Struct("!12sB3xHH16s")
_MAPPED_PREFIX: Final = bytes(10) + b"\xff\xff"
_MAX_LENGTH: Final = 1100
"""RFC 6887 §7: no message is longer."""


class GatewayError(enum.IntEnum):
    """Why a gateway refused; the numbers are ours, as the two protocols differ."""

    UNSUPPORTED_VERSION = 1
    NOT_AUTHORIZED = 2
    NETWORK_FAILURE = 3
    NO_RESOURCES = 4
    UNSUPPORTED = 5
    CONFLICT = 6
    OTHER = 7


# RFC 6886 §3.5 and RFC 6887 §7.4.
_PMP_ERRORS: Final = {
    1: GatewayError.UNSUPPORTED_VERSION,
    2: GatewayError.NOT_AUTHORIZED,
    3: GatewayError.NETWORK_FAILURE,
    4: GatewayError.NO_RESOURCES,
    5: GatewayError.UNSUPPORTED,
}
_PCP_ERRORS: Final = {
    1: GatewayError.UNSUPPORTED_VERSION,
    2: GatewayError.NOT_AUTHORIZED,
    4: GatewayError.UNSUPPORTED,
    5: GatewayError.UNSUPPORTED,
    7: GatewayError.NETWORK_FAILURE,
    8: GatewayError.NO_RESOURCES,
    9: GatewayError.UNSUPPORTED,
    10: GatewayError.NO_RESOURCES,
    11: GatewayError.CONFLICT,
    12: GatewayError.CONFLICT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PcpMapped:
    """PCP's answer: what the gateway forwards to us.

    ``epoch_s``: how long the gateway has known its mappings; smaller than expected
    when it was restarted and forgot ours. ``lifetime_s`` is 0 after a deletion.
    """

    nonce: bytes
    internal_port: int
    external: Endpoint
    lifetime_s: int
    epoch_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PmpMapped:
    """NAT-PMP's answer to a mapping request; see `PcpMapped`."""

    internal_port: int
    external_port: int
    lifetime_s: int
    epoch_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PmpAddress:
    """NAT-PMP's answer to `PMP_ADDRESS_REQUEST`."""

    host: str
    epoch_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayRefusal:
    """The gateway will not.

    ``is_pcp``: by which protocol it speaks; a gateway that knows NAT-PMP alone answers
    PCP so (RFC 6886 §3.5).
    """

    error: GatewayError
    is_pcp: bool


GatewayAnswer = PcpMapped | PmpMapped | PmpAddress | GatewayRefusal


def pcp_map_request(
    client: str, nonce: bytes, internal_port: int, external: Endpoint, lifetime_s: int
) -> bytes:
    """Ask by PCP to forward a UDP port (RFC 6887 §11.1).

    Args:
        client: our address, as the gateway sees it: others' requests are refused.
        nonce: 12 bytes nobody else knows, the same for all requests for this mapping.
        internal_port: where our socket is.
        external: what we would like; an unspecified address or port 0 leaves it open.
        lifetime_s: 0 deletes the mapping.
    """
    assert len(nonce) == NONCE_LENGTH
    header = _PCP_REQUEST.pack(_PCP_VERSION, _OP_MAP, 0, lifetime_s, _sixteen(client))
    return header + _PCP_MAP.pack(
        nonce, _UDP, internal_port, external.port, _sixteen(external.host)
    )


def pmp_map_request(internal_port: int, external_port: int, lifetime_s: int) -> bytes:
    """Ask by NAT-PMP to forward a UDP port; lifetime 0 deletes (RFC 6886 §3.3)."""
    return _PMP_MAP_REQUEST.pack(
        _PMP_VERSION, _OP_MAP, 0, internal_port, external_port, lifetime_s
    )


def parse_answer_untrusted(data: bytes) -> GatewayAnswer:
    """Read what came from a gateway's port.

    Raises:
        RemoteProtocolError: it is no answer of either protocol.
    """
    if _PMP_HEAD.size <= len(data) <= _MAX_LENGTH and data[1] & _RESPONSE:
        try:
            if data[0] == _PMP_VERSION:
                return _parse_pmp(data)
            if data[0] == _PCP_VERSION:
                return _parse_pcp(data)
        except struct.error:
            pass
    raise RemoteProtocolError(
        f"{len(data)} bytes {data[:2].hex()} from a gateway, "
        "expected an answer of NAT-PMP or PCP"
    )


def _parse_pmp(data: bytes) -> GatewayAnswer:
    _, operation, result, epoch_s = _PMP_HEAD.unpack_from(data)
    operation &= ~_RESPONSE
    if result:
        error = _PMP_ERRORS.get(result, GatewayError.OTHER)
        return GatewayRefusal(error=error, is_pcp=False)
    if operation == _OP_ADDRESS:
        (packed,) = _PMP_ADDRESS.unpack_from(data, _PMP_HEAD.size)
        return PmpAddress(host=str(ipaddress.IPv4Address(packed)), epoch_s=epoch_s)
    if operation == _OP_MAP:
        fields = _PMP_MAPPED.unpack_from(data, _PMP_HEAD.size)
        internal_port, external_port, lifetime_s = fields
        return PmpMapped(
            internal_port=internal_port,
            external_port=external_port,
            lifetime_s=lifetime_s,
            epoch_s=epoch_s,
        )
    raise struct.error


def _parse_pcp(data: bytes) -> GatewayAnswer:
    _, operation, _, result, lifetime_s, epoch_s = _PCP_RESPONSE.unpack_from(data)
    if result:
        error = _PCP_ERRORS.get(result, GatewayError.OTHER)
        return GatewayRefusal(error=error, is_pcp=True)
    if operation != _RESPONSE | _OP_MAP:
        raise struct.error
    fields = _PCP_MAP.unpack_from(data, _PCP_RESPONSE.size)
    nonce, protocol, internal_port, external_port, packed = fields
    if protocol != _UDP:
        raise struct.error
    return PcpMapped(
        nonce=nonce,
        internal_port=internal_port,
        external=Endpoint(_host_of(packed), external_port),
        lifetime_s=lifetime_s,
        epoch_s=epoch_s,
    )


def _sixteen(host: str) -> bytes:
    """An address as PCP writes it: IPv4 in IPv6's clothes (RFC 6887 §5)."""
    packed = ipaddress.ip_address(host).packed
    return packed if len(packed) == len(_MAPPED_PREFIX) + 4 else _MAPPED_PREFIX + packed


def _host_of(packed: bytes) -> str:
    address = ipaddress.IPv6Address(packed)
    return str(address.ipv4_mapped or address)
