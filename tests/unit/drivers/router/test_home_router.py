from pathlib import Path

import pytest

from opnode.core.interfaces import InterfaceAddress
from opnode.drivers.router.home_router import (
    HomeRouter,
    default_routes,
    find_home_routers,
)

HEAD = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"


def route(gateway: str, *, metric: int = 0, flags: str = "0003", to: str = "00000000"):
    return f"eth0 {to} {gateway} {flags} 0 0 {metric} 00000000 0 0 0\n"


@pytest.fixture
def home() -> list[InterfaceAddress]:
    return [
        InterfaceAddress(host="127.0.0.1", name="lo", prefix_length=8),
        InterfaceAddress(host="192.168.1.7", name="eth0", prefix_length=24),
        InterfaceAddress(host="10.0.0.7", name="wlan0", prefix_length=8),
        InterfaceAddress(host="2001:db8::7", name="eth0", prefix_length=64),
    ]


def test_default_routes_are_read_by_metric():
    lines = [
        HEAD,
        route("0100000A", metric=600),
        route("0101A8C0", metric=100),
        route("0101A8C0", to="0001A8C0"),
        route("00000000"),
        route("0101A8C0", flags="0001"),
        "eth0 00000000 junk 0003 0 0 0 0\n",
        "short\n",
    ]
    assert default_routes(lines) == ["192.168.1.1", "10.0.0.1"]


def test_the_gateways_in_our_networks_are_found(tmp_path: Path, home):
    routes = tmp_path / "route"
    lines = [route("0101A8C0"), route("0100000A", metric=1), route("01FFFFAC")]
    routes.write_text(HEAD + "".join(lines))
    assert find_home_routers(home, routes) == (
        HomeRouter("192.168.1.1", "192.168.1.7"),
        HomeRouter("10.0.0.1", "10.0.0.7"),
    )


def test_a_public_gateway_is_not_asked(tmp_path: Path):
    routes = tmp_path / "route"
    routes.write_text(HEAD + route("01080808"))
    ours = [InterfaceAddress(host="8.8.8.2", name="eth0", prefix_length=24)]
    assert find_home_routers(ours, routes) == ()


def test_without_routes_the_first_hosts_of_our_networks_are_taken(tmp_path, home):
    assert find_home_routers(home, tmp_path / "none") == (
        HomeRouter("192.168.1.1", "192.168.1.7"),
        HomeRouter("10.0.0.1", "10.0.0.7"),
    )


def test_a_cable_between_two_machines_has_no_gateway(tmp_path):
    ours = [
        InterfaceAddress(host="192.168.1.2", prefix_length=31),
        InterfaceAddress(host="192.168.1.2", prefix_length=None),
    ]
    assert find_home_routers(ours, tmp_path / "none") == ()
