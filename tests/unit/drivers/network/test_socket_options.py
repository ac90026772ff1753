import socket
import struct

import pytest

from opnode.drivers.network.socket_options import (
    Told,
    enable_coalescing,
    enable_ecn_report,
    enlarge_buffers,
    forbid_fragments,
    has_segmentation,
    parse_ancillary,
    segmentation,
    set_ecn,
)


class DeafSocket:
    """A socket of a system that knows none of the options."""

    recvmsg_into = sendmsg = None

    def setsockopt(self, level: int, option: int, value: int) -> None:
        del value
        if level != socket.SOL_SOCKET or option not in {
            socket.SO_RCVBUF,
            socket.SO_SNDBUF,
        }:
            raise OSError("no such option")

    def getsockopt(self, level: int, option: int) -> int:
        raise OSError(f"no option {level}, {option}")


class OldSocket:
    """A socket without the calls that take control messages."""


GRO = (17, 104, struct.pack("=i", 1200))
TOS = (socket.IPPROTO_IP, 1, b"\xbb")
TRAFFIC_CLASS = (socket.IPPROTO_IPV6, 67, struct.pack("=i", 0xBA))


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ([], Told(0, 0)),
        ([GRO], Told(1200, 0)),
        ([TOS], Told(0, 3)),
        ([TRAFFIC_CLASS, GRO], Told(1200, 2)),
        ([(17, 99, b"\x01"), (socket.IPPROTO_IP, 8, b"\x01")], Told(0, 0)),
        ([(1, 29, bytes(16))], Told(0, 0)),
    ],
)
def test_control_messages_tell_segment_size_and_codepoint(messages, told):
    assert parse_ancillary(messages) == told


def test_a_run_asks_for_its_segment_size():
    [(level, kind, value)] = segmentation(1200)
    assert (level, kind) == (17, 103)
    assert struct.unpack("=H", value) == (1200,)


@pytest.mark.parametrize("is_v6", [True, False])
def test_a_system_without_an_option_goes_without_it(is_v6: bool):
    deaf = DeafSocket()
    assert not enable_coalescing(deaf)
    assert not has_segmentation(deaf)
    assert not enable_ecn_report(deaf, is_v6=is_v6)
    set_ecn(deaf, 2, is_v6=is_v6)
    forbid_fragments(deaf, is_v6=is_v6)
    enlarge_buffers(deaf, receive_bytes=1 << 20, send_bytes=1 << 20)


def test_a_system_without_control_messages_is_not_asked():
    assert not enable_coalescing(OldSocket())
    assert not has_segmentation(OldSocket())
    assert not enable_ecn_report(OldSocket(), is_v6=False)
