"""Whole nodes behind NATs: which path carries data, and what becomes of relays."""

import pytest
import trio

from opnode.core.errors import PeerUnreachable
from opnode.drivers.connection_paths import PathKind
from opnode.node.config import NodeConfig
from opnode.node.node import OverlayNode
from opnode.node.relay_way import RelayWayConfig
from opnode.protocols.relay import RelayConfig
from opnode.testing.nat_behaviour import SYMMETRIC
from opnode.testing.overlay import Overlay, open_overlay
from opnode.testing.virtual_network import Link

LINK = Link(latency_s=(0.01, 0.03))


async def relay_seed(overlay: Overlay, config: RelayConfig | None = None):
    return await overlay.seed(NodeConfig(relay=config or RelayConfig()))


async def talk(one, other, size: int = 20_000) -> float:
    """Send bytes on a new channel of one connection; returns the seconds it took."""
    started_at = trio.current_time()
    channel = await one.open_channel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.send_all, bytes(size))
        incoming = await other.accept_channel()
        got = 0
        while got < size:
            got += len(await incoming.receive_some(65536))
    return trio.current_time() - started_at


async def meet(caller: OverlayNode, callee: OverlayNode):
    """Both ends of a new connection."""
    connection = await caller.connect(callee.statistics().peer_id)
    return connection, await callee.accept_connection()


async def settle(overlay: Overlay) -> None:
    """Let those who need a relay learn of one."""
    await trio.sleep(10)


async def test_two_symmetric_nats_talk_by_relay_and_say_so(autojump_clock):
    async with open_overlay(2, link=LINK) as overlay:
        relay = await relay_seed(overlay)
        caller = await overlay.user(behind="sym")
        callee = await overlay.user(behind="sym")
        await settle(overlay)
        ours, theirs = await meet(caller, callee)
        await talk(ours, theirs)
        for connection in (ours, theirs):
            assert connection.path.kind is PathKind.RELAY
            assert connection.path.via == relay.endpoint
            assert connection.bytes_by_kind()[PathKind.RELAY].sent > 0
        assert ours.bytes_by_kind()[PathKind.RELAY].sent > 20_000
        figures = relay.statistics().relay
        assert figures.complete == 1
        assert figures.bytes_relayed > 20_000


async def test_nothing_is_relayed_where_the_operator_did_not_say_so(autojump_clock):
    async with open_overlay(3, link=LINK) as overlay:
        caller = await overlay.user(behind="sym")
        callee = await overlay.user(behind="sym")
        await settle(overlay)
        with pytest.raises(PeerUnreachable):
            await meet(caller, callee)
        assert all(node.statistics().relay is None for node in overlay.seeds)


async def test_who_can_goes_directly_and_the_relay_is_let_go(autojump_clock):
    async with open_overlay(2, link=LINK) as overlay:
        relay = await relay_seed(overlay)
        caller = await overlay.user(behind="port")
        callee = await overlay.user(behind="port")
        await settle(overlay)
        ours, theirs = await meet(caller, callee)
        await talk(ours, theirs)
        await trio.sleep(5)
        assert ours.path.kind is theirs.path.kind is PathKind.DIRECT
        await trio.sleep(RelayWayConfig().warm_s + 40)
        assert relay.statistics().relay.sessions == 0
        await talk(ours, theirs)
        assert len(ours.paths()) == 1


async def test_when_the_direct_path_dies_both_come_back_to_the_relay(autojump_clock):
    async with open_overlay(2, link=LINK) as overlay:
        relay = await relay_seed(overlay)
        caller = await overlay.user(behind="port")
        callee = await overlay.user(behind="port")
        await settle(overlay)
        ours, theirs = await meet(caller, callee)
        await talk(ours, theirs)
        await trio.sleep(2 * RelayWayConfig().warm_s)
        assert relay.statistics().relay.sessions == 0
        for address in (caller, callee):
            overlay.nat_of(address).become(SYMMETRIC)
        took_s = await talk(ours, theirs)
        assert took_s < 40
        assert ours.path.kind is PathKind.RELAY
