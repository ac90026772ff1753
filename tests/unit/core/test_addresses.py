"""Endpoints: text and bytes, what is public, which site an address belongs to."""

import ipaddress

import pytest

from opnode.core.addresses import (
    Candidate,
    Endpoint,
    IceHalf,
    carried_endpoint,
    host_bytes,
    is_carried,
    is_link_local,
    is_loopback,
    is_public,
    may_name,
    network_of,
    pack,
    public_subnet,
    site_of,
    subnet_group,
    unpack_untrusted,
)
from opnode.core.errors import ConfigError, RemoteProtocolError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("1.2.3.4:5", "1.2.3.4", 5),
        (" 1.2.3.4:05 \n", "1.2.3.4", 5),
        ("0.0.0.0:0", "0.0.0.0", 0),
        ("[::1]:65535", "::1", 65535),
        ("[2001:DB8:0:0::7]:80", "2001:db8::7", 80),
        ("[::ffff:1.2.3.4]:9", "1.2.3.4", 9),
    ],
)
def test_a_good_text_becomes_its_canonical_endpoint(text: str, host: str, port: int):
    assert Endpoint.parse(text) == Endpoint(host, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "1.2.3.4",
        "1.2.3.4:",
        ":4000",
        "1.2.3.4:-1",
        "1.2.3.4:65536",
        "1.2.3.4:000080",
        "1.2.3.4:٤",
        "1.2.3:5",
        "01.2.3.4:5",
        "example.org:5",
        "::1:5",
        "[::1:5",
        "::1]:5",
        "[::1]5",
        "[1.2.3.4]:5",
        "[fe80::1%eth0]:5",
        "1.2.3.4:5:6",
    ],
)
def test_any_other_text_is_refused_with_field_and_expectation(text: str):
    with pytest.raises(ConfigError, match=r"^listen: found .*expected HOST:PORT"):
        Endpoint.parse(text, field="listen")


def test_a_refused_text_is_not_shown_beyond_64_characters():
    with pytest.raises(ConfigError) as caught:
        Endpoint.parse("x" * 10_000)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("text", ["1.2.3.4:5", "[2001:db8::7]:80"])
def test_an_endpoint_prints_as_it_is_parsed(text: str):
    endpoint = Endpoint.parse(text)
    assert str(endpoint) == f"{endpoint}" == text


def test_an_endpoint_is_an_address_as_sockets_want_it():
    assert tuple(Endpoint("1.2.3.4", 5)) == ("1.2.3.4", 5)


@pytest.mark.parametrize(
    ("endpoint", "wire"),
    [
        (Endpoint("1.2.3.4", 258), "010203040102"),
        (
            Endpoint("2001:db8::7", 80),
            "20010db800000000000000000000000700" + "50",
        ),
    ],
)
def test_an_endpoint_packs_to_address_then_port(endpoint: Endpoint, wire: str):
    assert pack(endpoint).hex() == wire
    assert unpack_untrusted(bytes.fromhex(wire)) == endpoint


@pytest.mark.parametrize("size", [0, 1, 5, 7, 17, 19, 1000])
def test_an_endpoint_of_another_size_is_refused(size: int):
    with pytest.raises(RemoteProtocolError, match=f"6 or 18 bytes, found {size} bytes"):
        unpack_untrusted(bytes(size))


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param("010203040000", id="port 0"),
        pytest.param("000000000001", id="unspecified"),
        pytest.param("e00000010001", id="multicast"),
        pytest.param("ffffffff0001", id="broadcast"),
        pytest.param("00" * 16 + "0001", id="unspecified IPv6"),
        pytest.param("ff02" + "00" * 13 + "01" + "0001", id="multicast IPv6"),
        pytest.param("00" * 10 + "ffff01020304" + "0001", id="IPv4 in IPv6"),
    ],
)
def test_an_endpoint_that_is_no_single_host_is_refused(wire: str):
    with pytest.raises(RemoteProtocolError, match="names one host and a port above 0"):
        unpack_untrusted(bytes.fromhex(wire))


def test_a_host_name_has_no_bytes():
    with pytest.raises(ValueError, match="example"):
        host_bytes("example.org")


@pytest.mark.parametrize(
    "host",
    [
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.167.255.255",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2001:200::1",
        "2606:4700::1111",
    ],
)
def test_an_internet_address_is_public(host: str):
    assert is_public(host)


@pytest.mark.parametrize(
    "host",
    [
        "0.1.2.3",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.1.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "64:ff9b::1",
        "fc00::1",
        "fe80::1",
        "ff02::1",
        "2001::1",
        "2001:db8::1",
        "2002:101:101::1",
        "3fff::1",
    ],
)
def test_a_special_purpose_address_is_not_public(host: str):
    assert not is_public(host)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("10.0.0.0", "10.255.255.255"),
        ("100.64.0.0", "100.127.255.255"),
        ("169.254.0.0", "169.254.255.255"),
        ("172.16.0.0", "172.31.255.255"),
        ("192.0.2.0", "192.0.2.255"),
        ("192.88.99.0", "192.88.99.255"),
        ("192.168.0.0", "192.168.255.255"),
        ("198.18.0.0", "198.19.255.255"),
        ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ],
)
def test_a_reserved_network_ends_where_its_neighbours_begin(first, last):
    inside = (ipaddress.ip_address(first), ipaddress.ip_address(last))
    assert not any(is_public(str(address)) for address in inside)
    assert is_public(str(inside[0] - 1))
    assert is_public(str(inside[1] + 1))


@pytest.mark.parametrize(("first", "last"), [("2000::", "3fff:ffff::")])
def test_only_an_eighth_of_ipv6_is_handed_out(first, last):
    assert is_public(first)
    assert is_public(last)
    assert not is_public("1fff:ffff::1")
    assert not is_public("4000::1")


def test_loopback_is_told_from_everything_else():
    assert is_loopback("127.0.0.1")
    assert is_loopback("127.9.9.9")
    assert is_loopback("::1")
    assert not is_loopback("128.0.0.1")
    assert not is_loopback("::2")


@pytest.mark.parametrize(
    ("reporter", "host", "allowed"),
    [
        ("8.8.8.8", "9.9.9.9", True),
        ("8.8.8.8", "192.168.1.1", False),
        ("8.8.8.8", "100.64.0.1", False),
        ("8.8.8.8", "127.0.0.1", False),
        ("192.168.1.7", "10.0.0.1", True),
        ("192.168.1.7", "9.9.9.9", True),
        ("192.168.1.7", "127.0.0.1", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "192.168.1.1", True),
        ("127.0.0.1", "0.1.2.3", False),
        ("10.0.0.1", "240.0.0.1", False),
        ("10.0.0.1", "255.255.255.255", False),
        ("10.0.0.1", "224.0.0.1", False),
        ("10.0.0.1", "0.0.0.0", False),
        ("8.8.8.8", "2a00:1450::1", False),
        ("2a00:1450::1", "2606:4700::1", True),
        ("2a00:1450::1", "fd00::1", False),
        ("2a00:1450::1", "::1", False),
        ("fd00::7", "fd00::1", True),
        ("fd00::7", "fe80::1", False),
        ("fd00::7", "ff02::1", False),
        ("fd00::7", "::", False),
        ("::1", "::1", True),
    ],
)
def test_nobody_sends_us_to_an_address_nearer_than_itself(reporter, host, allowed):
    assert may_name(reporter, host) is allowed


def test_addresses_of_one_ipv4_24_share_a_group_and_others_do_not():
    assert subnet_group("1.2.3.4") == subnet_group("1.2.3.255") == bytes([1, 2, 3])
    assert subnet_group("1.2.4.4") != subnet_group("1.2.3.4")


def test_addresses_of_one_ipv6_48_share_a_group_and_others_do_not():
    group = subnet_group("2606:4700:1:2::3")
    assert group == subnet_group("2606:4700:1:ffff::9")
    assert group != subnet_group("2606:4700:2:2::3")
    assert len(group) == 6


def test_the_password_of_an_ice_half_is_not_in_its_repr():
    candidate = Candidate(
        kind="host", endpoint=Endpoint("1.2.3.4", 5), priority=1, foundation="1"
    )
    half = IceHalf("user", "hush-hush", (candidate,))
    assert len(half.password) == 9
    assert "hush" not in repr(half)
    assert "1.2.3.4" in repr(half)


def test_only_public_addresses_belong_to_a_subnet():
    assert public_subnet("8.8.8.8") == bytes([8, 8, 8])
    assert public_subnet("192.168.1.1") is None


def test_networks_are_16_bits_of_ipv4_32_of_ipv6_and_a_private_host_is_its_own():
    assert network_of("8.8.8.8") == network_of("8.8.9.9") != network_of("8.9.8.8")
    one, two = network_of("2a00:1450:1::1"), network_of("2a00:1450:2::1")
    assert one == two != network_of("2a00:1451::1")
    assert network_of("10.0.0.1") != network_of("10.0.0.2")


def test_names_of_carriers_are_no_addresses():
    one, two = carried_endpoint(1), carried_endpoint(2**40)
    assert one != two
    assert is_carried(one.host)
    assert is_carried(two.host)
    assert not is_public(one.host)
    assert not is_carried("2001:100::1")
    with pytest.raises(RemoteProtocolError, match="names one host"):
        unpack_untrusted(pack(one))


def test_only_addresses_that_no_router_passes_on_are_of_a_link():
    assert is_link_local("169.254.1.2")
    assert is_link_local("fe80::1")
    assert not is_link_local("192.168.1.2")
    assert not is_link_local("fd00::1")


def test_a_site_is_an_ipv4_address_or_the_64_of_an_ipv6_one():
    assert site_of("1.2.3.4") == bytes([1, 2, 3, 4])
    assert site_of("2606:4700:1:2::3") == site_of("2606:4700:1:2:ffff::9")
    assert site_of("2606:4700:1:2::3") != site_of("2606:4700:1:3::3")
