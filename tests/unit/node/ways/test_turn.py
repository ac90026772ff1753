"""Calls whose only way is a TURN server, between whole nodes behind virtual NATs."""

import random

import pytest
import trio

from opnode.core.addresses import Candidate, Endpoint
from opnode.core.errors import PeerUnreachable
from opnode.drivers.connection_paths import PathKind
from opnode.drivers.turn.turn import TurnServer, TurnTransport
from opnode.node.config import NodeConfig
from opnode.node.ways.ways import Words
from opnode.testing.overlay import open_overlay
from opnode.testing.turn_server import FakeTurnServer

SERVER = Endpoint("5.5.5.5", 3478)
GIVEN = TurnServer(
    host=SERVER.host,
    port=SERVER.port,
    transport=TurnTransport.UDP,
    username="me",
    password="secret",  # noqa: S106 - of the fake
)
WITH_TURN = NodeConfig(turn_servers=(GIVEN,))
WITHOUT = NodeConfig()


async def start_server(overlay, nursery):
    fake = FakeTurnServer(
        overlay.network.host(SERVER.host),
        SERVER,
        username="me",
        password="secret",  # noqa: S106 - of the fake
        rng=random.Random(3),
    )
    await nursery.start(fake.run)
    return fake


async def exchanged(caller, callee, connection, data=b"x" * 20_000):
    """Send over the call both ways; true when every byte arrived."""
    channel = await connection.open_channel()
    await channel.send_all(data)
    await channel.send_eof()
    theirs = await callee.accept_connection()
    answered = await theirs.accept_channel()
    received = b""
    while len(received) < len(data):
        received += await answered.receive_some()
    await answered.send_all(received[::-1])
    back = b""
    while len(back) < len(data):
        back += await channel.receive_some()
    assert (received, back) == (data, data[::-1])
    return theirs


@pytest.mark.parametrize(
    ("caller_config", "callee_config"),
    [(WITH_TURN, WITHOUT), (WITHOUT, WITH_TURN), (WITH_TURN, WITH_TURN)],
    ids=["caller", "callee", "both"],
)
async def test_two_behind_symmetric_nats_talk_through_the_server_that_one_has(
    autojump_clock, nursery, caller_config, callee_config
):
    async with open_overlay(5, public=True) as overlay:
        fake = await start_server(overlay, nursery)
        caller = await overlay.user(behind="sym", config=caller_config)
        callee = await overlay.user(behind="sym", config=callee_config)
        await trio.sleep(5)
        with trio.fail_after(10):
            connection = await caller.connect(callee.peer_id)
        assert connection.path.kind is PathKind.TURN
        theirs = await exchanged(caller, callee, connection)
        assert theirs.path.kind is PathKind.TURN
        assert fake.counts().to_peers + fake.counts().to_clients > 40000 // 1200


async def test_a_call_through_turn_lasts_for_an_hour(autojump_clock, nursery):
    async with open_overlay(5, public=True) as overlay:
        await start_server(overlay, nursery)
        caller = await overlay.user(behind="sym", config=WITH_TURN)
        callee = await overlay.user(behind="sym")
        await trio.sleep(5)
        connection = await caller.connect(callee.peer_id)
        for _ in range(12):
            await trio.sleep(300)
            with trio.fail_after(5):
                await connection.ping()
        assert connection.path.kind is PathKind.TURN


async def test_a_direct_path_is_taken_although_a_server_is_there(
    autojump_clock, nursery
):
    async with open_overlay(5, public=True) as overlay:
        fake = await start_server(overlay, nursery)
        caller = await overlay.user(behind="port", config=WITH_TURN)
        callee = await overlay.user(behind="port", config=WITH_TURN)
        await trio.sleep(5)
        connection = await caller.connect(callee.peer_id)
        await trio.sleep(3)
        assert connection.path.kind is PathKind.DIRECT
        before = fake.counts().to_peers
        await exchanged(caller, callee, connection, b"x" * 200_000)
        assert fake.counts().to_peers - before < 20


async def test_a_dead_server_costs_a_call_nothing(autojump_clock, nursery):
    async with open_overlay(5, public=True) as overlay:
        fake = await start_server(overlay, nursery)
        took = []
        for config in (WITHOUT, WITH_TURN):
            fake.is_silent = True
            caller = await overlay.user(behind="port", config=config)
            callee = await overlay.user(behind="port", config=config)
            await trio.sleep(5)
            started_at = trio.current_time()
            connection = await caller.connect(callee.peer_id)
            took.append(trio.current_time() - started_at)
            assert connection.path.kind is PathKind.DIRECT
        assert took[1] < took[0] + 0.1


async def test_without_any_server_the_failure_is_told_as_soon_as_the_checks_fail(
    autojump_clock, nursery
):
    async with open_overlay(5, public=True) as overlay:
        caller = await overlay.user(behind="sym")
        callee = await overlay.user(behind="sym")
        await trio.sleep(5)
        started_at = trio.current_time()
        with pytest.raises(PeerUnreachable, match="no check came back"):
            await caller.connect(callee.peer_id)
        assert trio.current_time() - started_at < 10


async def test_a_forged_relayed_address_draws_no_data_to_its_owner(
    autojump_clock, nursery
):
    async with open_overlay(5, public=True) as overlay:
        victim = await overlay.network.host("6.6.6.6").bind(Endpoint("6.6.6.6", 53))
        caller = await overlay.user(behind="port")
        callee = await overlay.user(behind="port")
        forged = Candidate(
            kind="relay", endpoint=victim.local, priority=9, foundation="r"
        )
        caller.connector.way_makers.append(Liar(forged))
        await trio.sleep(5)
        await caller.connect(callee.peer_id)
        await trio.sleep(60)
        drawn = 0
        while (received := victim.receive()) is not None:
            drawn += len(received.buffer)
        assert 0 < drawn <= 120


class Liar:
    """A way that tells an address which is somebody else's."""

    def __init__(self, candidate):
        self._candidate = candidate

    def new_way(self, heard):  # noqa: ARG002 - as the protocol has it
        return self

    def opening(self):
        return Words(candidates=(self._candidate,))

    async def run(self, host):  # noqa: ARG002 - as above
        await trio.sleep_forever()

    async def aclose(self):
        await trio.lowlevel.checkpoint()
