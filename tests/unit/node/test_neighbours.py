"""`neighbours`: a peer on our link is called there, a server is an entry."""

import random

import pytest

from opnode.core.addresses import Endpoint
from opnode.core.interfaces import InterfaceAddress
from opnode.drivers.lan.lan import Lan
from opnode.node.acquaintances import Acquaintances
from opnode.node.bootstrap import BootstrapEntry
from opnode.node.neighbours import Neighbours, OwnEndpoints
from opnode.node.network_watch import NetworkChange
from opnode.protocols.lan import LanDesk
from opnode.testing.clock import VirtualWallClock
from opnode.testing.keys import seeded_signing_key
from opnode.testing.virtual_lan import VirtualLan
from tests.unit.protocols.test_lan import location_of

INTERFACES = (
    InterfaceAddress(host="127.0.0.1", name="lo"),
    InterfaceAddress(host="172.17.0.1", name="docker0", prefix_length=16),
    InterfaceAddress(host="10.0.0.9", name="eth0", prefix_length=24),
    InterfaceAddress(host="192.168.1.9", name="wlan0", prefix_length=24),
    InterfaceAddress(host="fd00::9", name="wlan0", prefix_length=64),
)


def own(bound):
    made = OwnEndpoints(Endpoint(bound, 4000), lambda: INTERFACES)
    made.refresh()
    return made


@pytest.mark.parametrize(
    ("bound", "neighbour", "expected"),
    [
        ("0.0.0.0", "192.168.1.7", ["192.168.1.9", "10.0.0.9"]),
        ("::", "10.0.0.7", ["10.0.0.9", "192.168.1.9"]),
        ("::", "fe80::7", ["fd00::9"]),
        ("0.0.0.0", "fe80::7", []),
        ("192.168.1.9", "10.0.0.7", ["192.168.1.9"]),
        ("127.0.0.1", "10.0.0.7", []),
        ("0.0.0.0", "10.0.1.7", []),
        ("0.0.0.0", "8.8.8.8", []),
        ("::", "2a00::7", []),
        ("::", "169.254.3.7", ["10.0.0.9", "192.168.1.9"]),
    ],
)
def test_a_neighbour_is_told_where_our_socket_is_reached_the_nearest_first(
    bound, neighbour, expected
):
    found = own(bound).towards(neighbour)
    assert found == [Endpoint(host, 4000) for host in expected]


class Pair:
    """A node that asks, and one that answers, on one link."""

    def __init__(self):
        self.link = VirtualLan()
        self.clock = VirtualWallClock()
        self.acquaintances = Acquaintances(self.clock)

    async def neighbours(self, nursery, number):
        host = f"192.168.1.{number}"
        lan = Lan(
            LanDesk(b"network1", random.Random(number).randbytes),
            self.link.opener(host),
            lambda _: [Endpoint(host, 4000)],
            self.clock,
        )
        await nursery.start(lan.run)
        return Neighbours(lan, self.acquaintances)


@pytest.fixture
def pair():
    return Pair()


async def test_a_peer_on_our_link_is_called_where_it_says(
    autojump_clock, nursery, pair
):
    ann = location_of("ann")
    us = await pair.neighbours(nursery, 1)
    assert await us.find(ann.certificate.peer_id) is None
    (await pair.neighbours(nursery, 2)).adopt(ann)
    presence = await us.find(ann.certificate.peer_id)
    assert presence.certificate == ann.certificate
    assert presence.introducers == ()
    static = ann.certificate.static_public
    at = (Endpoint("192.168.1.2", 4000),)
    assert pair.acquaintances.endpoints_of(static) == at
    # It was only seen: nobody whom we talked to.
    assert len(pair.acquaintances) == 0


async def test_a_server_on_our_link_is_an_entry_that_pins_its_key(
    autojump_clock, nursery, pair
):
    us = await pair.neighbours(nursery, 1)
    assert await us.entries() == []
    them = await pair.neighbours(nursery, 2)
    key = them.lan.desk.node_key = seeded_signing_key("node")
    assert await us.entries() == [BootstrapEntry(key.public, "192.168.1.2", 4000)]
    them.lan.desk.is_server = lambda: False
    assert await us.entries() == []


def test_only_a_change_of_links_opens_the_sockets_anew():
    lan = Lan(LanDesk(b"network1", bytes), list, list, VirtualWallClock())
    neighbours = Neighbours(lan, Acquaintances(VirtualWallClock()))
    neighbours.network_changed(NetworkChange.SEEN_ELSEWHERE)
    assert not lan._stale.is_set()
    neighbours.network_changed(NetworkChange.ADDRESSES)
    assert lan._stale.is_set()
