"""`lan_sockets`: only real links are used, and what fails costs that one alone."""

from opnode.core.interfaces import InterfaceAddress
from opnode.drivers.lan.sockets import open_lan_sockets


def test_loopback_containers_and_tunnels_are_no_links():
    found = open_lan_sockets(
        [
            InterfaceAddress(host="127.0.0.1", name="lo"),
            InterfaceAddress(host="172.17.0.1", name="docker0"),
            InterfaceAddress(host="10.8.0.2", name="tun0"),
        ]
    )
    assert list(found) == []


def test_an_interface_that_is_gone_is_passed_over():
    found = open_lan_sockets([InterfaceAddress(host="192.0.2.77", name="nosuch0")])
    assert list(found) == []
