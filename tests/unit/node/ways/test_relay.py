"""Whole nodes behind NATs: which path carries data, and what becomes of relays."""

import pytest
import trio

from opnode.core.addresses import Candidate, Endpoint
from opnode.core.errors import PeerUnreachable, RelayLimitReached
from opnode.drivers.connection_paths import PathKind
from opnode.node.config import NodeConfig
from opnode.node.node import OverlayNode
from opnode.node.ways.relay import RelayWayConfig, RelayWays
from opnode.node.ways.ways import Words
from opnode.protocols.introductions.messages import RelayPoint, Rendezvous
from opnode.protocols.relay import RelayConfig
from opnode.testing.nat_behaviour import FULL_CONE, SYMMETRIC
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


async def both_go_by_relay(ours, theirs) -> None:
    """Wait until both ends send through a relay."""
    with trio.fail_after(30):
        while {ours.path.kind, theirs.path.kind} != {PathKind.RELAY}:  # noqa: ASYNC110 - no event tells it of both
            await trio.sleep(0.1)


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


async def test_an_offer_that_may_be_a_replay_draws_one_packet_to_whoever_it_names(
    autojump_clock,
):
    async with open_overlay(2, link=LINK, public=True) as overlay:
        host = overlay.network.host("6.6.6.6")
        victims = [await host.bind(Endpoint("6.6.6.6", port)) for port in (53, 54)]
        callee = await overlay.user(behind="sym")
        (ways,) = (m for m in callee.connector.way_makers if type(m) is RelayWays)
        named = [RelayPoint(one.local, bytes([n]) * 8) for n, one in enumerate(victims)]
        way = ways.new_way(Words(rendezvous=Rendezvous(relays=tuple(named))))
        await trio.sleep(60)
        await way.aclose()
        heard = [one.receive() for one in victims]
        drawn = [got for got in heard if got is not None]
        assert len(drawn) == 1
        assert len(drawn[0].buffer) == drawn[0].segment_size < 100


async def test_a_relay_at_an_address_that_is_checked_already_waits_for_a_proof(
    autojump_clock,
):
    async with open_overlay(2, link=LINK, public=True) as overlay:
        at = Endpoint("6.6.6.6", 53)
        victim = await overlay.network.host(at.host).bind(at)
        callee = await overlay.user(behind="sym")
        (ways,) = (m for m in callee.connector.way_makers if type(m) is RelayWays)
        checked = Candidate(kind="host", endpoint=at, priority=9, foundation="h")
        named = Rendezvous(relays=(RelayPoint(at, b"session1"),))
        way = ways.new_way(Words(candidates=(checked,), rendezvous=named))
        await trio.sleep(60)
        await way.aclose()
        assert victim.receive() is None


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
        # One end is there first; copies of what the other one says go there meanwhile.
        await both_go_by_relay(ours, theirs)


async def test_at_a_limit_the_error_has_a_name_and_another_relay_goes_on(
    autojump_clock,
):
    small = RelayConfig(session_bytes=60_000)
    async with open_overlay(2, link=LINK) as overlay:
        first = await relay_seed(overlay, small)
        caller = await overlay.user(behind="sym")
        callee = await overlay.user(behind="sym")
        await settle(overlay)
        ours, theirs = await meet(caller, callee)
        second = await relay_seed(overlay)
        ended = []
        ways = caller._parts.relaying.ways
        note = ways.failed
        ways.failed = lambda session: ended.append(session.error) or note(session)
        await talk(ours, theirs, 400_000)
        assert isinstance(ended[0], RelayLimitReached)
        assert "all the bytes" in str(ended[0])
        assert ours.path.via == theirs.path.via == second.endpoint
        assert dict(first.statistics().relay.ended)["BYTES"] >= 1
        use = caller.statistics().relay_use
        assert dict(use.failures)["RelayLimitReached"] >= 1
        assert use.last_failure
        assert second.endpoint in {session.relay for session in use.sessions}
        assert ours.bytes_by_kind()[PathKind.RELAY].sent > 400_000


async def test_when_the_relay_dies_another_one_takes_over_and_no_byte_is_lost(
    autojump_clock,
):
    async with open_overlay(2, link=LINK) as overlay:
        relays = [await relay_seed(overlay) for _ in range(2)]
        caller = await overlay.user(behind="sym")
        callee = await overlay.user(behind="sym")
        await settle(overlay)
        ours, theirs = await meet(caller, callee)
        used = next(node for node in relays if node.endpoint == ours.path.via)
        (other,) = (node for node in relays if node is not used)
        await overlay.kill(used)
        assert await talk(ours, theirs, 100_000) < 3
        assert ours.path.via == theirs.path.via == other.endpoint


async def test_a_relay_that_says_good_bye_is_replaced_at_once(autojump_clock):
    async with open_overlay(2, link=LINK) as overlay:
        relays = [await relay_seed(overlay) for _ in range(2)]
        caller = await overlay.user(behind="sym")
        callee = await overlay.user(behind="sym")
        await settle(overlay)
        ours, theirs = await meet(caller, callee)
        used = next(node for node in relays if node.endpoint == ours.path.via)
        await overlay.stop(used)
        with trio.fail_after(10):
            await talk(ours, theirs, 100_000)


async def test_when_the_nats_let_through_the_connection_goes_direct(autojump_clock):
    async with open_overlay(2, link=LINK) as overlay:
        relay = await relay_seed(overlay)
        caller = await overlay.user(behind="sym")
        callee = await overlay.user(behind="sym")
        await settle(overlay)
        ours, theirs = await meet(caller, callee)
        await talk(ours, theirs)
        assert ours.path.kind is PathKind.RELAY
        for node in (caller, callee):
            overlay.nat_of(node).become(FULL_CONE)
            overlay.nat_of(node).reboot()
        await trio.sleep(120)
        await talk(ours, theirs)
        assert ours.path.kind is theirs.path.kind is PathKind.DIRECT
        await trio.sleep(RelayWayConfig().warm_s + 30)
        assert relay.statistics().relay.sessions == 0


async def test_of_two_relays_drawn_by_chance_the_nearer_one_is_taken(autojump_clock):
    async with open_overlay(1, link=LINK) as overlay:
        relays = [await relay_seed(overlay) for _ in range(2)]
        leaf = await overlay.user(behind="sym")
        await settle(overlay)
        rpc, ways = leaf._parts.rpc, leaf._parts.relaying.ways
        nearer = min((r.endpoint for r in relays), key=rpc.round_trip_to)
        assert {ways.choose() for _ in range(20)} == {nearer}
        other = ways.choose({nearer})
        assert other in {relay.endpoint for relay in relays} - {nearer}
        assert ways.choose({nearer, other}) is None


async def test_the_relay_sees_nothing_of_what_is_said(autojump_clock):
    words = b"nobody but the two of us shall read this " * 20
    async with open_overlay(2, link=LINK) as overlay:
        relay = await relay_seed(overlay)
        caller = await overlay.user(behind="sym")
        callee = await overlay.user(behind="sym")
        await settle(overlay)
        seen = []
        hub = relay._parts.hub
        forward = hub.relay_handler

        def look(run):
            seen.append(bytes(run.buffer))
            forward(run)

        hub.relay_handler = look
        ours, theirs = await meet(caller, callee)
        channel = await ours.open_channel()
        await channel.send_all(words)
        incoming = await theirs.accept_channel()
        got = b""
        while len(got) < len(words):
            got += await incoming.receive_some(65536)
        assert got == words
    captured = b"".join(seen)
    assert len(captured) > len(words)
    assert words[:16] not in captured
    for node in (caller, callee):
        assert node.peer_id not in captured
        assert node._parts.keys.location.certificate.static_public not in captured


async def test_a_relay_that_we_reach_by_websocket_is_told_apart(autojump_clock):
    async with open_overlay(2, link=LINK) as overlay:
        relay = await relay_seed(overlay)
        caller = await overlay.user(behind="sym")
        (ways,) = (m for m in caller.connector.way_makers if type(m) is RelayWays)
        assert ways.kind_of(relay.endpoint) is PathKind.RELAY
        ways.paths.rpc.detour.gateways = (relay.endpoint,)
        assert ways.kind_of(relay.endpoint) is PathKind.WEBSOCKET
