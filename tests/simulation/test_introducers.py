"""Leaves and their introducers: overload, a new address, sleep, another network."""

import contextlib

import pytest
import trio

from opnode.core.addresses import Endpoint, pack
from opnode.core.errors import OpnodeError
from opnode.node.config import NodeConfig, Role
from opnode.protocols.binding_lifetime import BindingLifetimeConfig
from opnode.protocols.introductions.introducer import IntroducerConfig
from opnode.testing.nat_behaviour import PORT_RESTRICTED, NatBehaviour
from opnode.testing.overlay import open_overlay

LEAF = NodeConfig(role=Role.LEAF)
RESTLESS = NatBehaviour(timeout_s=30.0)


def registered(node):
    return node.statistics().introductions.registered


def hosts_of(node):
    return [entry.endpoint.host for entry in node.statistics().introducers]


async def is_reached(caller, callee):
    """Whether an offer gets through one of those that the callee names now."""
    introduce = caller._parts.introductions.introduce
    callee._parts.introductions.expect_word(b"are you there?")
    for entry in callee.statistics().introducers:
        with contextlib.suppress(OpnodeError):
            return await introduce(entry, b"are you there?") == b"are you there?"
    return False


async def test_ten_times_too_many_leaves_move_on_and_none_stays_without(
    autojump_clock,
):
    async with open_overlay(0, public=True) as overlay:
        small = NodeConfig(introducer=IntroducerConfig(max_registrations=2))
        roomy = NodeConfig(introducer=IntroducerConfig(max_registrations=20))
        servers = [await overlay.seed(roomy) for _ in range(5)]
        crowded = [await overlay.seed(small) for _ in range(5)]
        leaves = [await overlay.user(behind=PORT_RESTRICTED) for _ in range(20)]
        await trio.sleep(300)
        assert all(len(hosts_of(leaf)) == 3 for leaf in leaves)
        assert max(map(registered, crowded)) <= 2
        assert max(map(registered, servers)) <= 20
        assert sum(leaf.statistics().presence.busy for leaf in leaves) > 0
        caller = await overlay.user(behind="open", config=LEAF)
        assert all([await is_reached(caller, leaf) for leaf in leaves])


async def test_leaves_leave_an_introducer_that_has_too_much_to_pass_on(autojump_clock):
    async with open_overlay(0, public=True) as overlay:
        thin = NodeConfig(
            introducer=IntroducerConfig(bytes_per_s=500.0, bytes_burst=20_000.0)
        )
        for _ in range(8):
            await overlay.seed(thin)
        leaf = await overlay.user(behind=PORT_RESTRICTED)
        before = leaf.statistics().introducers[0]
        callers = [await overlay.user(behind="open", config=LEAF) for _ in range(10)]
        served = 0

        async def call_too_often(caller):
            nonlocal served
            while True:
                with contextlib.suppress(OpnodeError):
                    await caller._parts.introductions.introduce(before, bytes(1000))
                    served += 1
                await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            for caller in callers:
                nursery.start_soon(call_too_often, caller)
            # Ten times what it passes on, until a registration is due.
            await trio.sleep(700)
            assert before not in leaf.statistics().introducers
            assert len(leaf.statistics().introducers) == 3
            assert await is_reached(callers[0], leaf)
            nursery.cancel_scope.cancel()


async def test_after_a_new_address_a_leaf_is_reached_within_a_third_of_an_interval(
    autojump_clock,
):
    async with open_overlay(8, public=True) as overlay:
        leaf = await overlay.user(behind=RESTLESS)
        caller = await overlay.user(behind="open", config=LEAF)
        await trio.sleep(600)
        overlay.nat_of(leaf).reboot()
        overlay.nat_of(leaf).change_address("20.30.40.50")
        longest_s = leaf.statistics().presence.binding.interval_s / 3
        await trio.sleep(longest_s + 3)
        assert await is_reached(caller, leaf)


async def test_after_ten_minutes_of_sleep_a_leaf_is_reached_within_five_seconds(
    autojump_clock,
):
    async with open_overlay(8, public=True) as overlay:
        leaf = await overlay.user(behind=RESTLESS)
        caller = await overlay.user(behind="open", config=LEAF)
        await trio.sleep(600)
        # It slept: its NAT forgot everything, its introducers and holders the rest,
        # and only the calendar tells. What timers it had go on where they stopped.
        overlay.nat_of(leaf).reboot()
        overlay.wall_clock.jump(600)
        await trio.sleep(5 + 1)
        assert await is_reached(caller, leaf)


async def test_in_another_network_a_leaf_is_reached_within_a_second(autojump_clock):
    async with open_overlay(8, public=True) as overlay:
        leaf = await overlay.user(behind=RESTLESS)
        caller = await overlay.user(behind="open", config=LEAF)
        await trio.sleep(600)
        overlay.host_of(leaf).move_to(overlay.nat("port"))
        await trio.sleep(1)
        assert await is_reached(caller, leaf)
        assert leaf.statistics().presence.binding.probes > 0


async def test_a_newer_registration_of_a_key_replaces_the_older_at_once(
    autojump_clock,
):
    async with open_overlay(3, public=True) as overlay:
        leaf = await overlay.user(behind=PORT_RESTRICTED)
        entry = leaf.statistics().introducers[0]
        (server,) = [n for n in overlay.seeds if n.node_id == entry.node_id]
        desk = server._parts.introductions._desk
        old = desk.route(entry.handle, leaf.endpoint, trio.current_time())
        overlay.host_of(leaf).move_to(overlay.nat("port"))
        await trio.sleep(1)
        new = desk.route(entry.handle, leaf.endpoint, trio.current_time())
        assert new.host == overlay.nat_of(leaf).address != old.host


@pytest.mark.slow
@pytest.mark.parametrize("timer_s", [30.0, 60.0, 180.0])
async def test_behind_any_timer_somebody_always_gets_in_and_idling_costs_little(
    autojump_clock, timer_s
):
    """Looks into the box, as every datagram that asked would open it."""
    async with open_overlay(30, public=True) as overlay:
        behaviour = NatBehaviour(timeout_s=timer_s)
        leaf = await overlay.user(behind=behaviour)
        # Searches that find nothing, and dials, become rare only in the first hour.
        await trio.sleep(2400)
        table = overlay.nat_of(leaf)._table
        before, began_at = spent(leaf), trio.current_time()
        shut_s, sessions = 0.0, []
        while trio.current_time() < began_at + 3600:
            await trio.sleep(1)
            now = trio.current_time()
            sessions.append(table.statistics(now).sessions)
            entries = leaf.statistics().introducers
            is_open = any(is_let_in(table, behaviour, entry) for entry in entries)
            shut_s = 0.0 if is_open else shut_s + 1
            assert shut_s <= BindingLifetimeConfig().start_s
        packets, size = spent(leaf)
        assert (packets - before[0]) / 3600 <= 0.3
        assert (size - before[1]) / 3600 <= 25
        assert sorted(sessions)[len(sessions) // 2] <= 3
        view = leaf.statistics().presence.binding
        assert 0.75 * timer_s < view.interval_s < timer_s or view.interval_s > 118


def is_let_in(table, behaviour, entry):
    mapping = table._ports.get(4000)
    return mapping is not None and mapping.lets_in(entry.endpoint, behaviour.filtering)


def spent(leaf):
    """Datagrams and bytes inside of UDP, sent and heard."""
    seen = leaf.statistics().traffic.socket
    return seen.datagrams_in + seen.datagrams_out, seen.bytes_in + seen.bytes_out


async def test_what_servers_see_of_a_call_names_neither_caller_nor_candidates(
    autojump_clock, monkeypatch
):
    async with open_overlay(6, public=True) as overlay:
        caller = await overlay.user(behind=PORT_RESTRICTED)
        callee = await overlay.user(behind=PORT_RESTRICTED)
        await trio.sleep(60)
        servers = {server.endpoint.host for server in overlay.seeds}
        captured = []
        halves = []
        carry = overlay.network.carry

        def record(data, source, destination, ecn=0):
            if source.host in servers or destination.host in servers:
                captured.append(bytes(data))
            carry(data, source, destination, ecn)

        def remember(agent, new_session):
            def opened(**how):
                session = new_session(**how)
                halves.append(session.local)
                return session

            monkeypatch.setattr(agent, "new_session", opened)

        monkeypatch.setattr(overlay.network, "carry", record)
        for node in (caller, callee):
            remember(node.connector.ice, node.connector.ice.new_session)
        connection = await caller.connect(callee.peer_id)
        assert await connection.ping() > 0
        await trio.sleep(2)
        seen = b"".join(captured)
        assert len(halves) >= 2
        assert overlay.nat_of(caller).address not in servers
        keys = caller._parts.keys
        traces = [
            caller.peer_id,
            keys.identity.signing.public,
            keys.location.signing.public,
            keys.location.static.public,
            keys.location.certificate.pack(),
            pack(Endpoint(overlay.host_of(caller).address, 4000)),
            *(half.ufrag.encode() for half in halves),
            *(half.password.encode() for half in halves),
        ]
        # The capture is one: it shows the presence that the caller looked up.
        assert callee._parts.keys.location.signing.public in seen
        for trace in traces:
            assert bytes(trace) not in seen
