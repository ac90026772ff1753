"""`reachability`: whether strangers reach a port is found out."""

import random

import pytest
import trio

from opnode.core.errors import RequestRefused
from opnode.drivers.dht.dialling import Dialler
from opnode.drivers.dht.reachability import ReachabilityCheck
from opnode.protocols.reachability import ReachabilityConfig
from opnode.protocols.rpc.messages import Dialled, Ping
from opnode.testing.nat import VirtualNat
from opnode.testing.nat_behaviour import FIREWALL, OPEN

SETTLE_S = ReachabilityConfig().settle_s


async def servers(network, nursery, hosts):
    """Servers that dial for others and know each other."""
    made = []
    for host in hosts:
        node = await network.add(host=host)
        dialler = Dialler(
            node.rpc,
            lambda: [other.contact for other in made],
            network.network.host(host).bind,
            random.Random(host),
        )
        nursery.start_soon(dialler.run)
        made.append(node)
    return made


def checking(node, known, nursery):
    check = ReachabilityCheck(
        node.rpc, lambda: [other.contact for other in known], random.Random(2)
    )
    changes = []
    check.on_change = changes.append
    nursery.start_soon(check.run)
    return check, changes


def box(network, host, behaviour):
    """A box in front of the node that is added behind it."""
    return VirtualNat(network.network, host, behaviour, random.Random(1))


PUBLIC = [f"{n}.1.1.1" for n in range(11, 31)]
PRIVATE = [f"10.0.0.{n}" for n in range(11, 15)]


async def test_a_public_port_is_proven_by_strangers(autojump_clock, nursery, network):
    known = await servers(network, nursery, PUBLIC)
    node = await network.add(host="9.9.9.9", leaf=True)
    check, changes = checking(node, known[:4], nursery)
    check.moved(node.hub.local)
    await trio.sleep(SETTLE_S + 5)
    assert check.is_proven
    assert changes == [True]


async def test_whom_the_node_talked_to_lately_proves_nothing(
    autojump_clock, nursery, network
):
    known = await servers(network, nursery, PUBLIC[:6])
    node = await network.add(host="9.9.9.9", leaf=True)
    for other in known:
        await node.rpc.request(other.hub.local, Ping())
    check, _ = checking(node, known, nursery)
    check.moved(node.hub.local)
    await trio.sleep(SETTLE_S + 5)
    assert not check.is_proven, "a NAT would let them in"


@pytest.mark.parametrize("hosts", [PRIVATE[:1], PRIVATE])
async def test_a_private_port_is_proven_by_the_hosts_that_there_are(
    autojump_clock, nursery, network, hosts
):
    known = await servers(network, nursery, hosts)
    node = await network.add(host="10.0.0.1", leaf=True)
    for other in known:
        await node.rpc.request(other.hub.local, Ping())
    check, changes = checking(node, known, nursery)
    check.moved(node.hub.local)
    await trio.sleep(SETTLE_S + 5)
    assert changes == [True]
    assert check.is_proven


@pytest.mark.parametrize("hosts", [PRIVATE, PUBLIC])
async def test_behind_a_port_restricted_nat_nothing_is_proven(
    autojump_clock, nursery, network, hosts
):
    known = await servers(network, nursery, hosts)
    host = "9.9.9.9" if hosts is PUBLIC else "10.0.0.1"
    behind = box(network, host, FIREWALL)
    node = await network.add(host=behind, leaf=True)
    check, changes = checking(node, known, nursery)
    check.moved(node.hub.local)
    await trio.sleep(3 * 3600)
    assert not check.is_proven
    assert changes == []
    assert behind.statistics().table.filtered > 0


async def test_a_port_that_closes_later_is_noticed_within_two_hours(
    autojump_clock, nursery, network
):
    known = await servers(network, nursery, PRIVATE)
    behind = box(network, "10.0.0.1", OPEN)
    node = await network.add(host=behind, leaf=True)
    check, changes = checking(node, known, nursery)
    check.moved(node.hub.local)
    await trio.sleep(SETTLE_S + 5)
    behind.become(FIREWALL)
    await trio.sleep(2 * 3600 + FIREWALL.timeout_s)
    assert changes == [True, False]


async def test_whoever_was_not_asked_to_dial_proves_nothing(
    autojump_clock, nursery, network
):
    known = await servers(network, nursery, PRIVATE)
    node = await network.add(host="10.0.0.1", leaf=True)
    check, _ = checking(node, [], nursery)
    check.moved(node.hub.local)
    for when in (0, SETTLE_S + 1):
        await trio.sleep(when)
        with pytest.raises(RequestRefused):
            await known[0].rpc.request(node.hub.local, Dialled(bytes(16)))
    assert not check.is_proven
