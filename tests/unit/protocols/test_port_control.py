import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opnode.core.addresses import Endpoint
from opnode.core.errors import RemoteProtocolError
from opnode.protocols.port_control import (
    GatewayError,
    GatewayRefusal,
    PcpMapped,
    PmpAddress,
    PmpMapped,
    parse_answer_untrusted,
    pcp_map_request,
    pmp_map_request,
)

NONCE = bytes(range(12))
V4 = bytes(10) + b"\xff\xff"


def test_a_nat_pmp_request_has_the_bytes_of_the_rfc():
    """RFC 6886 §3.3: version 0, opcode 1, reserved, ports, lifetime."""
    assert pmp_map_request(4000, 5000, 7200) == bytes.fromhex(
        "00 01 0000 0fa0 1388 00001c20"
    )


def test_a_pcp_request_has_the_bytes_of_the_rfc():
    """RFC 6887 §7.1 and §11.1: 24 bytes of header, 36 of MAP."""
    request = pcp_map_request(
        "192.168.1.2", NONCE, 4000, Endpoint("203.0.113.1", 5000), 3600
    )
    assert request == (
        bytes.fromhex("02 01 0000 00000e10")
        + V4
        + bytes((192, 168, 1, 2))
        + NONCE
        + bytes.fromhex("11 000000 0fa0 1388")
        + V4
        + bytes((203, 0, 113, 1))
    )
    assert len(request) == 60


def test_answers_of_nat_pmp_are_read():
    address = bytes.fromhex("00 80 0000 00000064 cb007101")
    assert parse_answer_untrusted(address) == PmpAddress(
        host="203.0.113.1", epoch_s=100
    )
    mapped = bytes.fromhex("00 81 0000 00000064 0fa0 1388 00001c20")
    assert parse_answer_untrusted(mapped) == PmpMapped(
        internal_port=4000, external_port=5000, lifetime_s=7200, epoch_s=100
    )


def test_an_answer_of_pcp_is_read():
    answer = (
        bytes.fromhex("02 81 00 00 00000e10 00000064")
        + bytes(12)
        + NONCE
        + bytes.fromhex("11 000000 0fa0 1388")
        + V4
        + bytes((203, 0, 113, 1))
    )
    assert parse_answer_untrusted(answer) == PcpMapped(
        nonce=NONCE,
        internal_port=4000,
        external=Endpoint("203.0.113.1", 5000),
        lifetime_s=3600,
        epoch_s=100,
    )


@pytest.mark.parametrize(
    ("answer", "error", "is_pcp"),
    [
        ("00 81 0001 00000000", GatewayError.UNSUPPORTED_VERSION, False),
        ("00 81 0002 00000000", GatewayError.NOT_AUTHORIZED, False),
        ("00 81 0063 00000000", GatewayError.OTHER, False),
        ("02 81 00 01" + 20 * " 00", GatewayError.UNSUPPORTED_VERSION, True),
        ("02 81 00 0b" + 20 * " 00", GatewayError.CONFLICT, True),
        ("02 81 00 ff" + 20 * " 00", GatewayError.OTHER, True),
    ],
)
def test_refusals_are_read(answer: str, error: GatewayError, is_pcp: bool):
    assert parse_answer_untrusted(bytes.fromhex(answer)) == GatewayRefusal(
        error=error, is_pcp=is_pcp
    )


@pytest.mark.parametrize(
    "data",
    [
        "",
        "00 01 0000 00000000",  # a request
        "00 82 0000 00000000 0fa0 1388 00001c20",  # TCP
        "00 81 0000 00000000 0fa0",
        "01 81 0000 00000000 0fa0 1388 00001c20",
        "02 81 00 00 00000000 00000000" + 12 * " 00",
        "02 82 00 00 00000000 00000000" + 48 * " 00",
    ],
)
def test_what_is_no_answer_is_refused(data: str):
    with pytest.raises(RemoteProtocolError, match="from a gateway"):
        parse_answer_untrusted(bytes.fromhex(data))


@given(
    st.binary(max_size=1200), st.sampled_from([b"", b"\x00\x81", b"\x02\x81\x00\x00"])
)
def test_no_datagram_raises_anything_else(tail: bytes, head: bytes):
    with contextlib.suppress(RemoteProtocolError):
        parse_answer_untrusted(head + tail)
