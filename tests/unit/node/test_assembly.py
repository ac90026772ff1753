import random

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.core.errors import ConfigError
from opnode.drivers.asyncio_island import open_island
from opnode.node.assembly import World, assemble
from opnode.node.config import NodeConfig, Role
from opnode.node.keys import make_keys
from opnode.testing.clock import VirtualWallClock
from opnode.testing.virtual_network import VirtualNetwork

LISTEN = Endpoint("10.0.0.1", 4000)


async def build(network, island, *, role, has_identity=True):
    config = NodeConfig(listen=LISTEN, role=role)
    keys = make_keys(has_identity=has_identity, name="", wall_now=1_767_225_600.0)
    world = World(
        network=network.host("10.0.0.1"),
        wall_clock=VirtualWallClock(),
        rng=random.Random(1),
        island=island,
    )
    return await assemble(config, keys, None, world)


async def test_a_seed_has_nobody_to_connect(autojump_clock):
    network = VirtualNetwork(random.Random(1))
    async with open_island() as island:
        parts = await build(network, island, role=Role.SERVER, has_identity=False)
        assert parts.connector is None
        assert parts.presence is None
        assert not parts.rpc.leaf
        parts.close()


async def test_only_an_explicit_server_enters_the_tables_of_others(autojump_clock):
    network = VirtualNetwork(random.Random(1))
    async with open_island() as island:
        for role in (Role.AUTO, Role.LEAF):
            parts = await build(network, island, role=role)
            assert parts.rpc.leaf
            parts.close()


async def test_a_port_in_use_is_a_config_error(autojump_clock):
    network = VirtualNetwork(random.Random(1))
    async with open_island() as island:
        parts = await build(network, island, role=Role.AUTO)
        with pytest.raises(ConfigError, match="listen"):
            await build(network, island, role=Role.AUTO)
        parts.close()
        await trio.lowlevel.checkpoint()
