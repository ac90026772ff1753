import errno
import socket

import pytest

from opnode.core.addresses import Endpoint
from opnode.drivers.network import dual_stack


@pytest.mark.parametrize(
    ("raw", "endpoint"),
    [
        (("::ffff:192.0.2.1", 7), Endpoint("192.0.2.1", 7)),
        (("::1", 7), Endpoint("::1", 7)),
        (("2001:db8::ffff:1", 7), Endpoint("2001:db8::ffff:1", 7)),
        (("::ffff:0:1", 7), Endpoint("::ffff:0:1", 7)),
    ],
)
def test_an_address_is_the_same_after_the_way_through_the_kernel(raw, endpoint):
    assert dual_stack.from_raw(raw) == endpoint
    assert dual_stack.to_raw(endpoint) == raw


def without_ipv6(monkeypatch):
    """A kernel that was told to have none."""
    real = socket.socket

    def refuse(family=socket.AF_INET, *arguments):
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported")
        return real(family, *arguments)

    monkeypatch.setattr(dual_stack.socket, "socket", refuse)


def test_where_the_system_has_no_ipv6_everywhere_means_ipv4(monkeypatch):
    without_ipv6(monkeypatch)
    raw = dual_stack.open_socket(Endpoint("::", 0))
    assert raw.family == socket.AF_INET
    assert raw.getsockname()[0] == "0.0.0.0"
    assert not dual_stack.carries_both(raw)
    raw.close()
    with pytest.raises(OSError, match="not supported"):
        dual_stack.open_socket(Endpoint("::1", 0))


def test_a_port_in_use_is_an_error_and_no_reason_to_drop_ipv6():
    first = dual_stack.open_socket(Endpoint("::", 0))
    if first.family != socket.AF_INET6:
        pytest.skip("this host has no IPv6")
    assert dual_stack.carries_both(first)
    with pytest.raises(OSError, match="in use"):
        dual_stack.open_socket(Endpoint("::", first.getsockname()[1]))
    first.close()


def test_ipv4_everywhere_is_ipv4_alone():
    raw = dual_stack.open_socket(Endpoint("0.0.0.0", 0))
    assert raw.family == socket.AF_INET
    assert not dual_stack.carries_both(raw)
    raw.close()
