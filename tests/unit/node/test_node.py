import contextlib
import random

import pytest
import trio

from opnode.core.addresses import Endpoint
from opnode.core.crypto import SigningKey
from opnode.core.errors import (
    IntroductionRefused,
    LocalProtocolError,
    PeerUnreachable,
    RecordNotFound,
    RefusalCode,
)
from opnode.core.ids import peer_id_of
from opnode.drivers.connection_paths import PathKind
from opnode.node.config import NodeConfig, Role
from opnode.node.node import GOODBYE_S, open_node
from opnode.testing.overlay import open_overlay
from opnode.testing.virtual_network import Link

ROUGH = Link(latency_s=(0.01, 0.05), loss=0.05, duplicate=0.02, reorder=0.05)


async def hello(caller, callee):
    """Connect, and send one line each way."""
    connection = await caller.connect(callee.peer_id)
    channel = await connection.open_channel()
    await channel.send_all(b"hello")
    theirs = await callee.accept_connection()
    other = await theirs.accept_channel()
    assert await other.receive_some() == b"hello"
    await other.send_all(b"hi")
    assert await channel.receive_some() == b"hi"
    return connection, theirs


async def test_two_people_find_each_other_by_identity(autojump_clock):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        connection, theirs = await hello(alice, bob)
        assert connection.path.kind is PathKind.DIRECT
        assert connection.path.endpoint == bob.endpoint
        assert theirs.path.endpoint == alice.endpoint
        assert theirs.peer_id == alice.peer_id


async def test_they_talk_on_after_every_other_node_died(autojump_clock):
    async with open_overlay(seeds=3) as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        connection, theirs = await hello(alice, bob)
        for number in (1, 2, 3):
            overlay.network.kill(f"10.0.0.{number}")
        await trio.sleep(600)
        channel = await connection.open_channel()
        await channel.send_all(b"still there?")
        other = await theirs.accept_channel()
        assert await other.receive_some() == b"still there?"


@pytest.mark.parametrize("seed", range(5))
async def test_a_lossy_network_only_makes_it_slower(autojump_clock, seed):
    async with open_overlay(seeds=4, link=ROUGH, seed=seed) as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        await hello(alice, bob)


@pytest.mark.parametrize("seed", range(8))
async def test_calling_each_other_at_once_makes_exactly_one_connection(
    autojump_clock, seed
):
    async with open_overlay(seeds=2, link=ROUGH, seed=seed) as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        made = {}

        async def call(name, caller, callee):
            made[name] = await caller.connect(callee.peer_id)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, "alice", alice, bob)
            nursery.start_soon(call, "bob", bob, alice)
        await trio.sleep(1)
        assert alice.connector.connections() == [made["alice"]]
        assert bob.connector.connections() == [made["bob"]]
        assert await made["alice"].ping() > 0


async def test_connecting_again_returns_the_live_connection(autojump_clock):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        connection, theirs = await hello(alice, bob)
        assert await alice.connect(bob.peer_id) is connection
        assert await bob.connect(alice.peer_id) is theirs


async def test_two_tasks_that_connect_share_one_connection(autojump_clock):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        made = []

        async def call():
            made.append(await alice.connect(bob.peer_id))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(call)
        assert made == [made[0]] * 5


async def test_either_side_can_call_again_after_a_connection_ended(autojump_clock):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        connection, theirs = await hello(alice, bob)
        await connection.aclose()
        await theirs.closed.wait()
        await trio.sleep(1)
        again, _ = await hello(bob, alice)
        await again.aclose()
        await trio.sleep(1)
        await hello(alice, bob)


async def test_who_lost_the_connection_gets_a_new_one_that_replaces_it(autojump_clock):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        connection, theirs = await hello(alice, bob)
        overlay.network.partition(["10.0.0.2"], ["10.0.0.3"])
        await connection.aclose()
        await trio.sleep(1)
        overlay.network.heal()
        assert not theirs.closed.is_set()
        again, _ = await hello(alice, bob)
        assert theirs.closed.is_set()
        assert bob.connector.connections() != [theirs]
        assert again.close_reason is None


async def test_an_unknown_identity_is_not_found(autojump_clock):
    async with open_overlay() as overlay:
        alice = await overlay.user()
        nobody = peer_id_of(SigningKey.generate().public, bytes(32))
        with pytest.raises(RecordNotFound):
            await alice.connect(nobody)


async def test_a_peer_that_vanished_is_unreachable_in_bounded_time(autojump_clock):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        overlay.network.kill("10.0.0.3")
        with trio.fail_after(15), pytest.raises(PeerUnreachable):
            await alice.connect(bob.peer_id)


async def test_a_peer_that_declines_says_so(autojump_clock):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        bob.connector.may_connect = lambda _: False
        with pytest.raises(IntroductionRefused) as caught:
            await alice.connect(bob.peer_id)
        assert caught.value.code is RefusalCode.DECLINED


async def test_a_peer_whose_queue_is_full_is_busy(autojump_clock):
    async with open_overlay() as overlay:
        bob = await overlay.user(max_unaccepted=1)
        first, second = await overlay.user(), await overlay.user()
        await first.connect(bob.peer_id)
        with pytest.raises(IntroductionRefused) as caught:
            await second.connect(bob.peer_id)
        assert caught.value.code is RefusalCode.BUSY


async def test_a_lookup_returns_what_the_peer_published(autojump_clock):
    async with open_overlay(seeds=3) as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        view = await alice.lookup(bob.peer_id)
        assert view.peer_file.peer_id == bob.peer_id
        assert [p.certificate.peer_id for p in view.presences] == [bob.peer_id]
        assert 1 <= len(view.presences[0].introducers) <= 3


async def test_nobody_connects_to_themselves(autojump_clock):
    async with open_overlay() as overlay:
        alice = await overlay.user()
        with pytest.raises(LocalProtocolError):
            await alice.connect(alice.peer_id)


async def test_a_seed_has_no_identity(autojump_clock):
    async with open_overlay() as overlay:
        seed = await overlay.seed()
        for attribute in ("peer_id", "connector"):
            with pytest.raises(LocalProtocolError):
                getattr(seed, attribute)
        with pytest.raises(LocalProtocolError):
            await seed.wait_published()


async def test_statistics_tell_the_state_of_the_node(autojump_clock):
    async with open_overlay() as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        await hello(alice, bob)
        statistics = alice.statistics()
        assert statistics.joined
        assert statistics.contacts == 1
        assert statistics.connections == 1
        assert len(statistics.introducers) == 1
        assert not statistics.behind_nat
        assert statistics.traffic.socket.datagrams_out > 0


async def test_a_presence_outlives_its_holders(autojump_clock):
    async with open_overlay(seeds=8) as overlay:
        alice, bob = await overlay.user(), await overlay.user()
        await trio.sleep(1300)
        assert (await alice.lookup(bob.peer_id)).presences
        for number in range(2, 7):
            overlay.network.kill(f"10.0.0.{number}")
        # Twice as long as a presence is valid.
        await trio.sleep(2600)
        assert (await alice.lookup(bob.peer_id)).presences


async def test_a_node_stays_findable_for_longer_than_its_first_certificate(
    autojump_clock,
):
    async with open_overlay() as overlay:
        bob = await overlay.user()
        first = (await bob.lookup(bob.peer_id)).presences[0].certificate
        # A hundred days, without the idle minutes in between.
        for _ in range(4):
            autojump_clock.jump(25 * 86_400.0)
            await trio.sleep(3000)
        alice = await overlay.user()
        connection = await alice.connect(bob.peer_id)
        assert connection.certificate.static_public == first.static_public
        assert connection.certificate.created_at > first.created_at


async def test_a_node_without_anybody_says_so(autojump_clock):
    async with open_overlay() as overlay:
        alice = await overlay.user()
        overlay.network.kill("10.0.0.1")
        await trio.sleep(2000)
        assert not alice.statistics().joined
        with pytest.raises(PeerUnreachable, match="not connected to any other node"):
            await alice.lookup(alice.peer_id)


async def test_nobody_is_invited_through_a_leaf(autojump_clock):
    async with open_overlay() as overlay:
        seed, alice = await overlay.seed(), await overlay.user()
        assert seed.invite() is not None
        assert alice.invite() is None


async def test_after_a_clean_exit_everybody_sees_that_the_peer_is_offline(
    autojump_clock,
):
    async with open_overlay(seeds=12) as overlay:
        alice = await overlay.user()
        async with contextlib.AsyncExitStack() as stack:
            bob = await open_bob(overlay, stack)
            assert len((await alice.lookup(bob)).presences) == 1
            left_at = trio.current_time()
        assert trio.current_time() - left_at <= GOODBYE_S
        with trio.fail_after(2):
            view = await alice.lookup(bob)
        assert view.presences == ()
        assert view.peer_file is not None
        with trio.fail_after(2), pytest.raises(PeerUnreachable, match="offline"):
            await alice.connect(bob)


async def test_a_node_that_is_cancelled_still_says_good_bye(autojump_clock):
    async with open_overlay(seeds=3) as overlay:
        alice = await overlay.user()
        with trio.CancelScope() as ctrl_c:
            async with contextlib.AsyncExitStack() as stack:
                bob = await open_bob(overlay, stack)
                ctrl_c.cancel()
                await trio.sleep_forever()
        assert (await alice.lookup(bob)).presences == ()


async def test_a_node_that_is_alone_in_the_end_stops_in_time(autojump_clock):
    async with open_overlay(seeds=3) as overlay:
        async with contextlib.AsyncExitStack() as stack:
            await open_bob(overlay, stack)
            for number in (1, 2, 3):
                overlay.network.kill(f"10.0.0.{number}")
            left_at = trio.current_time()
        assert trio.current_time() - left_at <= GOODBYE_S + 0.1


async def test_who_comes_back_is_found_again(autojump_clock, tmp_path):
    async with open_overlay(seeds=3) as overlay:
        alice = await overlay.user()
        for _ in range(2):
            async with contextlib.AsyncExitStack() as stack:
                bob = await open_bob(overlay, stack, tmp_path / "bob")
                assert len((await alice.lookup(bob)).presences) == 1


async def open_bob(overlay, stack, data_dir=None):
    config = NodeConfig(
        listen=Endpoint("10.0.0.99", 4000),
        bootstrap=tuple(overlay.entries[:1]),
        data_dir=data_dir,
    )
    network = overlay.network.host("10.0.0.99")
    node = await stack.enter_async_context(
        open_node(config, network=network, wall_clock=overlay.wall_clock)
    )
    await node.wait_published()
    return node.peer_id


async def test_a_leaf_with_few_nat_mappings_finds_and_is_found(autojump_clock):
    async with open_overlay(30) as overlay:
        alice = await overlay.user()
        config = NodeConfig(
            listen=Endpoint("10.1.0.1", 4000),
            bootstrap=tuple(overlay.entries[:1]),
            role=Role.LEAF,
            few_bindings=True,
        )
        async with open_node(
            config,
            network=overlay.network.host("10.1.0.1"),
            wall_clock=overlay.wall_clock,
            rng=random.Random(1),
        ) as bob:
            await bob.wait_published()
            connection = await alice.connect(bob.peer_id)
            assert await connection.ping() > 0
            await connection.aclose()
            before = bob.statistics().dht
            await bob.lookup(alice.peer_id)
            after = bob.statistics().dht
            assert after.delegated == before.delegated + 1
            assert after.queries == before.queries
