"""`roles`: an explicit role always wins; otherwise it follows what others proved."""

import contextlib
import random

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.node.config import NodeConfig, Role
from opnode.node.node import open_node
from opnode.testing.nat import VirtualNat
from opnode.testing.nat_behaviour import FIREWALL
from opnode.testing.overlay import open_overlay


@contextlib.asynccontextmanager
async def node_in(overlay, host, *, role=Role.AUTO, is_filtered=False):
    if is_filtered:
        network = VirtualNat(overlay.network, host, FIREWALL, random.Random(1)).host()
    else:
        network = overlay.network.host(host)
    config = NodeConfig(
        listen=Endpoint(host, 4000), bootstrap=tuple(overlay.entries), role=role
    )
    async with open_node(
        config,
        network=network,
        wall_clock=overlay.wall_clock,
    ) as node:
        await node.wait_joined()
        yield node


async def test_nodes_of_a_private_network_become_servers_without_a_flag(
    autojump_clock,
):
    async with open_overlay(1) as overlay, contextlib.AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(node_in(overlay, f"10.0.1.{n}"))
            for n in range(1, 5)
        ]
        for node in nodes:
            assert node.statistics().role is Role.LEAF
            assert node.invite() is None
            with trio.fail_after(180):
                assert await node.role_changes.receive() is Role.SERVER
        await trio.sleep(5)
        for node in nodes:
            assert node.statistics().role is Role.SERVER
            assert node.invite() is not None
            known = {contact.node_id for contact in node.contacts()}
            others = {other.node_id for other in nodes if other is not node}
            assert others <= known, "servers are in each other's tables"


async def test_behind_a_filter_a_node_stays_a_leaf_in_nobodys_table(autojump_clock):
    async with (
        open_overlay(1) as overlay,
        node_in(overlay, "10.0.1.1") as open_one,
        node_in(overlay, "10.0.1.2", is_filtered=True) as closed,
    ):
        await trio.sleep(3 * 3600)
        assert open_one.statistics().role is Role.SERVER
        assert closed.statistics().role is Role.LEAF
        assert closed.invite() is None
        known = {contact.node_id for contact in open_one.contacts()}
        assert closed.node_id not in known


@pytest.mark.parametrize("role", [Role.SERVER, Role.LEAF])
async def test_an_explicit_role_always_wins(autojump_clock, role):
    async with (
        open_overlay(1) as overlay,
        node_in(overlay, "10.0.1.1", role=role) as node,
    ):
        await trio.sleep(3 * 3600)
        assert node.statistics().role is role


async def test_people_still_find_each_other_when_their_nodes_became_servers(
    autojump_clock,
):
    async with open_overlay(1) as overlay:
        anna, ben = await overlay.user(), await overlay.user()
        await trio.sleep(120)
        assert anna.statistics().role is Role.SERVER
        assert ben.statistics().role is Role.SERVER
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ben.accept_connection)
            connection = await anna.connect(ben.peer_id)
            assert connection.peer_id == ben.peer_id


async def test_a_server_whose_port_closes_is_a_leaf_again_and_leaves_all_tables(
    autojump_clock,
):
    async with (
        open_overlay(1) as overlay,
        node_in(overlay, "10.0.1.1") as one,
        node_in(overlay, "10.0.1.2", is_filtered=True) as node,
    ):
        # As if the router had forwarded the port until now.
        node._parts.roles._on_proven(is_proven=True)
        await trio.sleep(1)
        assert node.statistics().role is Role.SERVER
        node._parts.roles._on_proven(is_proven=False)
        await trio.sleep(3600)
        assert node.statistics().role is Role.LEAF
        assert node.node_id not in {c.node_id for c in one.contacts()}
