"""The relay parts of whole nodes: who serves, who looks for one, and the end."""

import trio

from opnode.node.config import NodeConfig
from opnode.protocols.relay import RelayConfig
from opnode.protocols.rpc.messages import Service
from opnode.testing.overlay import open_overlay


async def test_only_who_was_told_to_passes_anything_on(autojump_clock):
    async with open_overlay(1) as overlay:
        relay = await overlay.seed(NodeConfig(relay=RelayConfig()))
        assert relay.statistics().relay is not None
        assert overlay.seeds[0].statistics().relay is None
        assert overlay.seeds[0]._parts.rpc.services == 0
        assert relay._parts.rpc.services == Service.RELAY


async def test_who_is_behind_a_nat_knows_a_relay_before_it_needs_one(autojump_clock):
    async with open_overlay(2) as overlay:
        relay = await overlay.seed(NodeConfig(relay=RelayConfig()))
        leaf = await overlay.user(behind="port")
        await trio.sleep(10)
        known = leaf._parts.relaying.services.known(Service.RELAY)
        assert [contact.endpoint for contact in known] == [relay.endpoint]


async def test_an_end_user_may_serve_too(autojump_clock):
    async with open_overlay(1) as overlay:
        user = await overlay.user(config=NodeConfig(relay=RelayConfig()))
        assert user.statistics().relay is not None
