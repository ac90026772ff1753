import random

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.core.interfaces import InterfaceAddress
from opnode.drivers.ice.candidates import CandidateConfig, LocalCandidates
from opnode.testing.virtual_network import VirtualHost, VirtualNetwork

GOOD = "192.168.1.5"
SEEN = Endpoint("203.0.113.5", 500)


class Interfaces(VirtualHost):
    """A host with any interfaces, which counts how often they are asked for."""

    def __init__(self, *addresses):
        super().__init__(VirtualNetwork(random.Random(1)), "10.0.0.8")
        self.addresses = [
            address
            if isinstance(address, InterfaceAddress)
            else InterfaceAddress(host=address, name="eth0", prefix_length=24)
            for address in addresses
        ]
        self.asked = 0

    def interface_addresses(self):
        self.asked += 1
        return tuple(self.addresses)


def local(*addresses, bound="0.0.0.0"):
    network = Interfaces(*addresses)
    return LocalCandidates(Endpoint(bound, 500), network, CandidateConfig()), network


def hosts_of(candidates):
    return [candidate.endpoint.host for candidate in candidates]


@pytest.mark.parametrize(
    ("bound", "addresses", "expected"),
    [
        ("0.0.0.0", ["127.0.0.1", "10.1.1.1", "192.168.0.2"], 2),
        ("0.0.0.0", ["127.0.0.1", "::1"], ["127.0.0.1"]),
        ("0.0.0.0", ["2001:db8::1"], ["127.0.0.1"]),
        ("0.0.0.0", [f"10.1.1.{n}" for n in range(1, 9)], 4),
        ("::", ["10.1.1.1", "::1", "fd00::1"], ["10.1.1.1", "fd00::1"]),
        ("::", ["10.1.1.1", "2600::1"], ["2600::1", "10.1.1.1"]),
        ("fd00::7", ["10.1.1.1", "fd00::1", "fd00::7"], ["fd00::7"]),
    ],
)
async def test_a_socket_offers_the_interfaces_that_it_is_reached_at(
    autojump_clock, bound, addresses, expected
):
    offered, network = local(*addresses, bound=bound)
    candidates = offered.candidates()
    if isinstance(expected, int):
        expected = [a for a in addresses if a != "127.0.0.1"][:expected]
    assert hosts_of(candidates) == expected
    assert {candidate.endpoint.port for candidate in candidates} == {500}
    assert len({candidate.priority for candidate in candidates}) == len(candidates)
    assert len({candidate.foundation for candidate in candidates}) == len(candidates)
    asked = network.asked
    offered.candidates()
    assert network.asked == asked
    await trio.sleep(6)
    offered.candidates()
    assert network.asked == 2 * asked


async def test_of_twenty_junk_interfaces_and_a_good_one_the_good_one_is_checked_first():
    names = [f"veth{n}" for n in range(7)] + [f"br-{n:012x}" for n in range(7)]
    names += ["docker0", "virbr0", "tun0", "tap0", "wg0", "tailscale0"]
    junk = [
        InterfaceAddress(host=f"172.{17 + n}.0.1", name=name, prefix_length=16)
        for n, name in enumerate(names)
    ]
    good = InterfaceAddress(host=GOOD, name="wlan0", prefix_length=24)
    assert len(junk) == 20
    for place in (0, 10, 20):
        offered, _ = local(*junk[:place], good, *junk[place:])
        offered.add_observed(SEEN)
        candidates = offered.candidates()
        assert len(candidates) <= 8
        assert candidates[0].endpoint.host == GOOD
        assert max(candidates, key=lambda one: one.priority) is candidates[0]
        assert SEEN in [one.endpoint for one in candidates]


async def test_observed_addresses_are_reflexive_newest_first_and_of_our_families():
    offered, _ = local(GOOD)
    offered.add_observed(Endpoint(GOOD, 500))
    offered.add_observed(Endpoint("2600::9", 500))
    for port in (1, 2, 3):
        offered.add_observed(SEEN._replace(port=port))
    _, *reflexive = offered.candidates()
    assert [one.endpoint.port for one in reflexive] == [3, 2]
    assert {one.kind for one in reflexive} == {"srflx"}
    assert {one.related for one in reflexive} == {Endpoint(GOOD, 500)}
    offered.forget_observed(SEEN._replace(port=3))
    offered.forget_observed(SEEN._replace(port=3))
    assert offered.observed == {SEEN._replace(port=2)}


async def test_a_reflexive_address_has_a_base_of_its_own_ip_version():
    offered, _ = local(GOOD, "2600::1", bound="::")
    offered.add_observed(SEEN)
    offered.add_observed(Endpoint("2600:1::1", 7))
    bases = {one.endpoint.host: one.related for one in offered.candidates()[2:]}
    assert bases == {
        SEEN.host: Endpoint(GOOD, 500),
        "2600:1::1": Endpoint("2600::1", 500),
    }


async def test_a_mapping_comes_first_then_predictions_and_eight_in_all():
    offered, _ = local(*(f"10.1.{n}.1" for n in range(6)))
    offered.add_mapped(Endpoint("203.0.113.5", 4242))
    offered.add_observed(Endpoint("203.0.113.5", 9))
    predicted = [SEEN._replace(port=port) for port in range(7001, 7009)]
    candidates = offered.candidates(predicted)
    ports = [one.endpoint.port for one in candidates if one.kind == "srflx"]
    assert ports == [4242, 7001, 7002, 7003, 7004, 7005]
    assert len(candidates) == 8
    offered.forget_mapped(Endpoint("203.0.113.5", 4242))
    ports = [one.endpoint.port for one in offered.candidates(predicted)]
    assert ports[2:] == [7001, 7002, 7003, 7004, 7005, 9]


async def test_our_own_socket_is_told_apart_from_a_peer_with_the_same_address():
    offered, _ = local(GOOD)
    assert offered.is_ours(Endpoint(GOOD, 500))
    assert not offered.is_ours(Endpoint(GOOD, 501))
    assert not offered.is_ours(Endpoint("192.168.1.6", 500))
    bound, _ = local(GOOD, bound="10.0.0.1")
    assert bound.is_ours(Endpoint("10.0.0.1", 500))
    assert not bound.is_ours(Endpoint(GOOD, 500))
    assert offered.is_on_link("192.168.1.6")
    assert not offered.is_on_link("192.168.2.6")
