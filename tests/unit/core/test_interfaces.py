import pytest

from opnode.core.interfaces import (
    InterfaceAddress,
    InterfaceKind,
    is_on_link,
    ranked_interfaces,
)

GOOD = InterfaceAddress(host="192.168.1.5", name="eth0", prefix_length=24)
JUNK_NAMES = (
    *(f"br-{number:012x}" for number in range(6)),
    *(f"veth{number}" for number in range(6)),
    *(f"tun{number}" for number in range(4)),
    "docker0",
    "virbr0",
    "wg0",
    "tailscale0",
)


def junk():
    return [
        InterfaceAddress(host=f"172.{17 + n}.0.1", name=name, prefix_length=16)
        for n, name in enumerate(JUNK_NAMES)
    ]


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (InterfaceKind.LINK, "eth0 enp3s0 wlan0 en0 br0 br-lan ppp0 Ethernet Wi-Fi"),
        (InterfaceKind.TUNNEL, "tun0 tap1 utun3 wg0 tailscale0 ipsec0"),
        (InterfaceKind.VIRTUAL, "docker0 br-1f2e veth9a virbr0 vEthernet vmnet8"),
        (InterfaceKind.LOOPBACK, "lo"),
    ],
)
def test_the_name_of_an_interface_tells_what_it_is_for(kind, names):
    for name in names.split():
        assert InterfaceAddress(host="10.0.0.1", name=name).kind is kind


def test_loopback_addresses_are_loopback_under_any_name():
    for host in ("127.0.0.1", "::1"):
        one = InterfaceAddress(host=host, name="Loopback Pseudo-Interface 1")
        assert one.kind is InterfaceKind.LOOPBACK


def test_one_good_interface_comes_before_twenty_of_containers_and_vpns():
    loopback = InterfaceAddress(host="127.0.0.1", name="lo", is_default=True)
    ranked = ranked_interfaces([loopback, *junk(), GOOD])
    assert len(ranked) == 22
    assert ranked[0] is GOOD
    assert ranked[-1] is loopback


def test_what_shares_a_subnet_with_the_peer_comes_first_among_its_kind():
    other = InterfaceAddress(
        host="10.9.0.2", name="eth1", prefix_length=16, is_default=True
    )
    near = ranked_interfaces([other, GOOD, *junk()], ["192.168.1.77", "172.20.0.9"])
    assert near[:2] == [GOOD, other]
    ranked = ranked_interfaces([*junk(), GOOD, other], ["172.20.0.9"])
    assert ranked[:2] == [other, GOOD]
    assert ranked[2].host in ("172.20.0.1", "172.29.0.1")


def test_public_ipv6_comes_before_ipv4_on_equal_interfaces():
    six = InterfaceAddress(host="2600::5", name="eth0", prefix_length=64)
    local = InterfaceAddress(host="fd00::5", name="eth0", prefix_length=64)
    assert ranked_interfaces([GOOD, local, six])[0] is six
    assert ranked_interfaces([GOOD, local])[0] is GOOD


def test_being_on_one_link_takes_a_real_interface_and_its_subnet():
    assert is_on_link([GOOD], "192.168.1.77")
    assert not is_on_link([GOOD], "192.168.2.77")
    assert not is_on_link([GOOD], "2600::5")
    assert not is_on_link(junk(), "172.17.0.2")
    assert not is_on_link([InterfaceAddress(host="10.0.0.1", name="eth0")], "10.0.0.2")
